// SPDX-License-Identifier: Apache-2.0
//
// Records system calls that change memory through kernel tracepoints and perf_event_open(2),
// without BPF. What a process does to its memory decides which engine may carry it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "util/fd.h"

namespace memplate {

/// Where one field lies in a tracepoint's raw record.
struct TracepointField {
    std::string name;
    size_t offset = 0;
    size_t size = 0;
};
/// The fields listed in a tracepoint's `format` file.
[[nodiscard]] Result<std::vector<TracepointField>> parse_tracepoint_format(std::string_view text);

/// Records every madvise(2) and mremap(2) call of the machine from start() on, while it lives.
///
/// Calls of 32-bit programs on a 64-bit kernel have no tracepoints, process_madvise(2) is another
/// call, and CPUs brought online later are not watched.
class SyscallRecorder {
  public:
    enum class Call { madvise, mremap };
    struct Record {
        pid_t pid = 0;  ///< the process (thread group) in our pid namespace; 0 if not visible there
        pid_t tid = 0;  ///< the thread, likewise
        uint64_t time = 0;  ///< CLOCK_MONOTONIC at the entry of the call, nanoseconds
        Call call = Call::madvise;
        uint64_t address = 0;
        uint64_t length = 0;  ///< mremap: the old length
        // madvise only
        int advice = 0;
        // mremap only
        uint64_t new_length = 0;
        uint64_t flags = 0;
        uint64_t new_address = 0;  ///< means something with MREMAP_FIXED only
    };

    /// ErrorKind::unsupported, with the reason, where the machine cannot do it. A tracefs that is
    /// not mounted is mounted for this call only, invisible to others.
    static Result<SyscallRecorder> start();

    /// Calls made since the last drain(), oldest first. Call it often: a CPU's buffer has room for
    /// some 3000 calls.
    [[nodiscard]] Result<std::vector<Record>> drain();

    /// Calls since start() that did not fit into a buffer. Not zero: the records are not complete.
    [[nodiscard]] uint64_t lost() const;

  private:
    /// One kind of call: its tracepoint and where its arguments lie in a raw record.
    struct Tracepoint {
        Call call = Call::madvise;
        uint64_t id = 0;
        std::vector<size_t> offsets;  ///< of 8-byte values
    };
    struct Unmap {
        size_t size = 0;
        void operator()(void* address) const;
    };
    /// What the kernel shares with us for one CPU: a control page and the buffer after it.
    using Ring = std::unique_ptr<void, Unmap>;

    SyscallRecorder() = default;
    static Result<Tracepoint> find_tracepoint(int tracefs, Call call);
    Result<> watch_cpu(int cpu);
    Result<> read_ring(void* ring, std::vector<Record>& records) const;
    Result<> read_sample(std::span<const std::byte> sample, std::vector<Record>& records) const;

    std::vector<Tracepoint> tracepoints_;
    std::vector<UniqueFd> events_;  ///< one for each CPU and tracepoint
    std::vector<Ring> rings_;       ///< one for each CPU
};

}  // namespace memplate
