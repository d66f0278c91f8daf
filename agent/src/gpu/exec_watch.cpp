// SPDX-License-Identifier: Apache-2.0
#include "gpu/exec_watch.h"

#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <ctime>

namespace memplate::gpu {
namespace {

/// The control page and one page of records: there are two, the exec and the end.
size_t ring_bytes() {
    return 2 * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

ExecWatch::~ExecWatch() {
    if (ring_ != nullptr) ::munmap(ring_, ring_bytes());
}

void ExecWatch::begin() {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_SOFTWARE;
    attributes.config = PERF_COUNT_SW_DUMMY;
    attributes.sample_type = PERF_SAMPLE_TIME;
    attributes.sample_id_all = 1;  // the time of records that are no samples
    attributes.comm = 1;
    attributes.comm_exec = 1;
    attributes.exclude_kernel = 1;  // so that everybody may watch himself
    attributes.use_clockid = 1;
    attributes.clockid = CLOCK_MONOTONIC;
    const auto fd = static_cast<int>(
        ::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
    if (fd < 0) return;
    void* ring = ::mmap(nullptr, ring_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring != MAP_FAILED) ring_ = ring;
}

std::optional<int64_t> ExecWatch::end_ns() const {
    if (ring_ == nullptr) return std::nullopt;
    const auto* control = static_cast<const perf_event_mmap_page*>(ring_);
    const auto* records = static_cast<const char*>(ring_) + ring_bytes() / 2;
    const uint64_t written = std::atomic_ref(const_cast<perf_event_mmap_page*>(control)->data_head)
                                 .load(std::memory_order_acquire);
    // Few and small: the buffer never wraps.
    for (uint64_t at = 0; at + sizeof(perf_event_header) <= written;) {
        perf_event_header header{};
        std::memcpy(&header, records + at, sizeof header);
        if (header.size < sizeof header || at + header.size > written) break;
        if (header.type == PERF_RECORD_COMM && (header.misc & PERF_RECORD_MISC_COMM_EXEC) != 0) {
            int64_t time = 0;
            std::memcpy(&time, records + at + header.size - sizeof time, sizeof time);
            return time;
        }
        at += header.size;
    }
    return std::nullopt;
}

}  // namespace memplate::gpu
