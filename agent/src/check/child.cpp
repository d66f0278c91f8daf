// SPDX-License-Identifier: Apache-2.0
#include "check/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "util/fd.h"

namespace memplate::check {
namespace {

[[noreturn]] void run_probe(const std::function<Result<>()>& probe, int report) {
    // The probe must not outlive an agent that was killed.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto result = probe();
    if (result) ::_exit(0);
    (void)write_all(report, bytes_of(result.error().message));
    ::_exit(1);
}

/// Everything the child writes until it ends; false if it does not end in time.
bool read_report(int fd, std::chrono::milliseconds timeout, std::string& text) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    std::array<char, 1024> buffer{};
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0) return false;
        pollfd event{fd, POLLIN, 0};
        const int ready = ::poll(&event, 1, static_cast<int>(left.count()));
        if (ready == 0) return false;
        if (ready < 0) continue;
        const ssize_t size = ::read(fd, buffer.data(), buffer.size());
        if (size == 0) return true;
        if (size > 0) text.append(buffer.data(), static_cast<size_t>(size));
    }
}

}  // namespace

Result<> in_child(const std::function<Result<>()>& probe, std::chrono::milliseconds timeout) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const pid_t child = ::fork();
    if (child < 0) return fail_errno(errno, "fork");
    if (child == 0) run_probe(probe, writer.get());
    writer.reset();

    std::string text;
    const bool in_time = read_report(reader.get(), timeout, text);
    if (!in_time) ::kill(child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) return fail_errno(errno, "waitpid");
    }
    if (!in_time) return fail(fmt::format("no answer within {} ms", timeout.count()));
    if (WIFSIGNALED(status))
        return fail(fmt::format("killed by signal {} ({})", WTERMSIG(status),
                                ::strsignal(WTERMSIG(status))));
    if (WEXITSTATUS(status) != 0) return fail(text.empty() ? "failed without a message" : text);
    return {};
}

}  // namespace memplate::check
