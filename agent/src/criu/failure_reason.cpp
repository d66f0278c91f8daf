// SPDX-License-Identifier: Apache-2.0
//
// CRIU's log to one sentence for a person.
#include <algorithm>
#include <array>
#include <utility>

#include "criu/worker.h"
#include "util/text.h"

namespace memplate::criu {
namespace {

struct KnownCause {
    std::string_view pattern;
    std::string_view explanation;
};

constexpr std::array known_causes{
    KnownCause{"Can't dump half of stream unix connection",
               "it holds a unix socket whose other end is outside the checkpointed processes"},
    KnownCause{"External socket is used",
               "it holds a unix socket connected to a process outside the function"},
    KnownCause{"Connected TCP socket",
               "it has an open TCP connection; close connections before the checkpoint"},
    KnownCause{"In-flight connection",
               "a TCP connection was being accepted; close connections before the checkpoint"},
    KnownCause{"Unlock and retry: a file lock", "it holds a file lock"},
    KnownCause{"Can't dump ghost file", "it holds a large deleted file open"},
    KnownCause{"is not supported for dumping", ""},
    KnownCause{"io_uring", "it uses io_uring, which CRIU cannot checkpoint"},
    KnownCause{"has rseq-ed critical section", "a thread stood inside a restartable sequence"},
    KnownCause{"is already traced", "another program (a debugger, strace) traces it"},
    KnownCause{"Can't handle seccomp", "its seccomp filter cannot be checkpointed"},
    KnownCause{"Found corked UDP socket", "it has a corked UDP socket"},
    KnownCause{"Can't dump fd", ""},
    KnownCause{"File exists", "a process with a pid of the template runs in the sandbox already"},
};

/// Errors that CRIU lives with, or that only say that there was another one.
constexpr std::array<std::string_view, 6> not_the_cause{
    "rlimit: Can't setup", "exited, status=", "killed by signal",
    "Restoring FAILED",    "Dumping FAILED",  "Restorer fail"};

/// "(00.012345)     17: Error (criu/x.c:12): text" → "text"
std::string_view message_of(std::string_view line) {
    const size_t error = line.find("Error (");
    if (error == std::string_view::npos) return {};
    const size_t colon = line.find("): ", error);
    return colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 3);
}

}  // namespace

std::string failure_reason(std::string_view log) {
    std::string first;
    for (const std::string& line : split(log, '\n')) {
        std::string_view message = message_of(line);
        if (message.empty() && log.find('\n') == std::string_view::npos) message = log;
        if (message.empty() || std::ranges::any_of(not_the_cause, [&](auto text) {
                return message.find(text) != std::string_view::npos;
            }))
            continue;
        for (const KnownCause& cause : known_causes) {
            if (message.find(cause.pattern) == std::string_view::npos) continue;
            const std::string_view text =
                cause.explanation.empty() ? trim(message) : cause.explanation;
            return std::string(text);
        }
        if (first.empty()) first = trim(message);
    }
    return first;
}

}  // namespace memplate::criu
