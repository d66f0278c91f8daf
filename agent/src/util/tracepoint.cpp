// SPDX-License-Identifier: Apache-2.0
#include "util/tracepoint.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <ctime>
#include <span>

#include "util/fs.h"
#include "util/text.h"

namespace memplate {
namespace {

constexpr size_t ring_pages = 64;  // a power of two

struct Description {
    std::string_view tracepoint;
    std::vector<std::string_view> fields;  ///< in the order in which read_sample() takes them
};

Description describe(SyscallRecorder::Call call) {
    if (call == SyscallRecorder::Call::madvise)
        return {"sys_enter_madvise", {"start", "len_in", "behavior"}};
    return {"sys_enter_mremap", {"addr", "old_len", "new_len", "flags", "new_addr"}};
}

Failure unsupported(std::string_view reason) {
    return fail(ErrorKind::unsupported, fmt::format("recording of system calls: {}", reason));
}

bool has_syscall_events(const UniqueFd& tracefs) {
    return ::faccessat(tracefs.get(), "events/syscalls", F_OK, 0) == 0;
}

/// The root of a tracefs: the mounted one, else one that is in nobody's mount table.
Result<UniqueFd> open_tracefs() {
    if (auto mounted = open_at(AT_FDCWD, "/sys/kernel/tracing", O_PATH | O_DIRECTORY);
        mounted && has_syscall_events(*mounted))
        return mounted;
    const auto refuse = [] {
        return unsupported(fmt::format(
            "/sys/kernel/tracing is empty and tracefs cannot be mounted ({}); run as root on a "
            "kernel with CONFIG_FTRACE",
            strerrordesc_np(errno)));
    };
    const UniqueFd context(::fsopen("tracefs", FSOPEN_CLOEXEC));
    if (!context || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
        return refuse();
    UniqueFd detached(
        ::fsmount(context.get(), FSMOUNT_CLOEXEC,
                  MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
    if (!detached) return refuse();
    if (!has_syscall_events(detached))
        return unsupported("the kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS)");
    return detached;
}

/// "0-3,8" → 0 1 2 3 8
Result<std::vector<int>> online_cpus() {
    constexpr const char* path = "/sys/devices/system/cpu/online";
    TRY_ASSIGN(const std::string text, read_file(path));
    std::vector<int> cpus;
    for (const std::string& range : split(trim(text), ',')) {
        const auto ends = split(range, '-');
        TRY_ASSIGN(const uint64_t first, parse_unsigned(ends.front()));
        TRY_ASSIGN(const uint64_t last, parse_unsigned(ends.back()));
        if (ends.size() > 2 || last > 1'000'000)
            return fail(fmt::format("{}: {:?} is not understood", path, text));
        for (uint64_t cpu = first; cpu <= last; cpu++) cpus.push_back(static_cast<int>(cpu));
    }
    return cpus;
}

Result<UniqueFd> open_event(uint64_t tracepoint, int cpu) {
    perf_event_attr attributes{};
    attributes.size = sizeof attributes;
    attributes.type = PERF_TYPE_TRACEPOINT;
    attributes.config = tracepoint;
    attributes.sample_period = 1;
    attributes.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_RAW;
    // Records of type LOST are written only once there is room again, so the last overrun would
    // stay unknown; this count is always up to date.
    attributes.read_format = PERF_FORMAT_LOST;
    attributes.disabled = 1;
    attributes.use_clockid = 1;
    attributes.clockid = CLOCK_MONOTONIC;
    const auto fd = ::syscall(SYS_perf_event_open, &attributes, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    const int error = errno;
    Failure failure = fail_errno(error, "recording of system calls: perf_event_open");
    if (error == EPERM || error == EACCES)
        failure = unsupported("perf_event_open is not permitted; run as root or with CAP_PERFMON");
    else if (error == EINVAL)
        failure = unsupported("perf_event_open was refused; Linux 6.0 or newer is needed");
    else if (error == ENOSYS || error == EOPNOTSUPP || error == ENOENT)
        failure = unsupported("the kernel has no perf tracepoint events (CONFIG_PERF_EVENTS)");
    failure.error().code = error;
    return failure;
}

template <class T>
T value_at(std::span<const std::byte> bytes, size_t offset) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

/// Copies out of a buffer whose end continues at its start.
void copy_out(std::span<const std::byte> ring, uint64_t position, std::span<std::byte> into) {
    const size_t at = position % ring.size();
    const size_t first = std::min(into.size(), ring.size() - at);
    std::memcpy(into.data(), ring.data() + at, first);
    std::memcpy(into.data() + first, ring.data(), into.size() - first);
}

Failure malformed_record() {
    return fail("recording of system calls: malformed perf record");
}

}  // namespace

Result<std::vector<TracepointField>> parse_tracepoint_format(std::string_view text) {
    std::vector<TracepointField> fields;
    for (const std::string& line : split(text, '\n')) {
        const std::string_view declaration = trim(line);
        if (!declaration.starts_with("field:")) continue;
        // field:unsigned long start;  offset:16;  size:8;  signed:0;
        TracepointField field;
        bool has_offset = false;
        bool has_size = false;
        for (const std::string& part : split(declaration, ';')) {
            const std::string_view item = trim(part);
            const size_t colon = item.find(':');
            if (colon == std::string_view::npos) continue;
            const std::string_view key = item.substr(0, colon);
            std::string_view value = item.substr(colon + 1);
            if (key == "field") {
                value = trim(value.substr(0, value.find('[')));
                field.name = value.substr(value.find_last_of(" *") + 1);
            } else if (key == "offset") {
                TRY_ASSIGN(field.offset, parse_unsigned(value));
                has_offset = true;
            } else if (key == "size") {
                TRY_ASSIGN(field.size, parse_unsigned(value));
                has_size = true;
            }
        }
        if (field.name.empty() || !has_offset || !has_size)
            return fail(fmt::format("tracepoint format: line {:?} is not understood", line));
        fields.push_back(std::move(field));
    }
    return fields;
}

void SyscallRecorder::Unmap::operator()(void* address) const {
    ::munmap(address, size);
}

Result<SyscallRecorder::Tracepoint> SyscallRecorder::find_tracepoint(int tracefs, Call call) {
    const Description description = describe(call);
    const std::string directory = fmt::format("events/syscalls/{}", description.tracepoint);
    const auto id = read_file_at(tracefs, directory + "/id");
    if (!id && id.error().code == ENOENT)
        return unsupported(fmt::format("the kernel has no tracepoint {}", description.tracepoint));
    if (!id) return unsupported(id.error().message);
    TRY_ASSIGN(const std::string format, read_file_at(tracefs, directory + "/format"));
    TRY_ASSIGN(const auto fields, parse_tracepoint_format(format));
    Tracepoint tracepoint;
    tracepoint.call = call;
    TRY_ASSIGN(tracepoint.id, parse_unsigned(trim(*id)));
    for (const std::string_view name : description.fields) {
        const auto field = std::ranges::find(fields, name, &TracepointField::name);
        if (field == fields.end() || field->size != sizeof(uint64_t))
            return unsupported(
                fmt::format("tracepoint {} has no 8-byte field {}", description.tracepoint, name));
        tracepoint.offsets.push_back(field->offset);
    }
    return tracepoint;
}

Result<> SyscallRecorder::watch_cpu(int cpu) {
    // All events of a CPU write into the buffer of its first.
    int owner = -1;
    for (const Tracepoint& tracepoint : tracepoints_) {
        auto event = open_event(tracepoint.id, cpu);
        if (!event && event.error().code == ENODEV) return {};  // just went offline
        if (!event) return Failure(std::move(event.error()));
        if (owner < 0) {
            const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
            const size_t size = (1 + ring_pages) * page;
            void* const ring =
                ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, event->get(), 0);
            if (ring == MAP_FAILED)
                return fail_errno(errno, "recording of system calls: map a buffer");
            rings_.emplace_back(ring, Unmap{size});
            owner = event->get();
        } else if (::ioctl(event->get(), PERF_EVENT_IOC_SET_OUTPUT, owner) != 0) {
            return fail_errno(errno, "recording of system calls: share a buffer");
        }
        events_.push_back(std::move(*event));
    }
    return {};
}

Result<SyscallRecorder> SyscallRecorder::start() {
    SyscallRecorder recorder;
    {
        TRY_ASSIGN(const UniqueFd tracefs, open_tracefs());
        for (const Call call : {Call::madvise, Call::mremap}) {
            TRY_ASSIGN(Tracepoint tracepoint, find_tracepoint(tracefs.get(), call));
            recorder.tracepoints_.push_back(std::move(tracepoint));
        }
    }
    TRY_ASSIGN(const std::vector<int> cpus, online_cpus());
    for (const int cpu : cpus) TRY(recorder.watch_cpu(cpu));
    for (const UniqueFd& event : recorder.events_)
        if (::ioctl(event.get(), PERF_EVENT_IOC_ENABLE, 0) != 0)
            return fail_errno(errno, "recording of system calls: start");
    return recorder;
}

Result<> SyscallRecorder::read_sample(std::span<const std::byte> sample,
                                      std::vector<Record>& records) const {
    // u32 pid, tid; u64 time; u32 size; char raw[size]
    constexpr size_t raw_start = 20;
    if (sample.size() < raw_start) return malformed_record();
    Record record;
    record.pid = value_at<int32_t>(sample, 0);
    record.tid = value_at<int32_t>(sample, 4);
    record.time = value_at<uint64_t>(sample, 8);
    const size_t raw_size = value_at<uint32_t>(sample, 16);
    if (raw_size > sample.size() - raw_start || raw_size < sizeof(uint16_t))
        return malformed_record();
    const auto raw = sample.subspan(raw_start, raw_size);
    // Every tracepoint's record begins with its id.
    const auto tracepoint =
        std::ranges::find(tracepoints_, value_at<uint16_t>(raw, 0), &Tracepoint::id);
    if (tracepoint == tracepoints_.end()) return malformed_record();
    std::array<uint64_t, 5> arguments{};
    for (size_t i = 0; i < tracepoint->offsets.size(); i++) {
        const size_t offset = tracepoint->offsets[i];
        if (raw.size() < sizeof(uint64_t) || offset > raw.size() - sizeof(uint64_t))
            return malformed_record();
        arguments.at(i) = value_at<uint64_t>(raw, offset);
    }
    record.call = tracepoint->call;
    record.address = arguments[0];
    record.length = arguments[1];
    if (record.call == Call::madvise) {
        // The kernel takes an int; the upper half of the register may be anything.
        record.advice = static_cast<int>(static_cast<uint32_t>(arguments[2]));
    } else {
        record.new_length = arguments[2];
        record.flags = arguments[3];
        record.new_address = arguments[4];
    }
    records.push_back(record);
    return {};
}

Result<> SyscallRecorder::read_ring(void* ring, std::vector<Record>& records) const {
    auto& control = *static_cast<perf_event_mmap_page*>(ring);
    const std::span buffer(static_cast<const std::byte*>(ring) + control.data_offset,
                           control.data_size);
    // The kernel writes the records, then the head; it may reuse what lies before the tail.
    const uint64_t head = std::atomic_ref(control.data_head).load(std::memory_order_acquire);
    uint64_t tail = control.data_tail;
    Result<> result;
    std::vector<std::byte> bytes;
    while (tail < head && result) {
        perf_event_header header{};
        copy_out(buffer, tail, std::as_writable_bytes(std::span(&header, 1)));
        if (header.size < sizeof header || header.size > head - tail) {
            result = malformed_record();
            break;
        }
        if (header.type == PERF_RECORD_SAMPLE) {
            bytes.resize(header.size - sizeof header);
            copy_out(buffer, tail + sizeof header, bytes);
            result = read_sample(bytes, records);
        }
        tail += header.size;
    }
    std::atomic_ref(control.data_tail).store(head, std::memory_order_release);
    return result;
}

Result<std::vector<SyscallRecorder::Record>> SyscallRecorder::drain() {
    std::vector<Record> records;
    for (const Ring& ring : rings_) TRY(read_ring(ring.get(), records));
    std::ranges::stable_sort(records, {}, &Record::time);
    return records;
}

uint64_t SyscallRecorder::lost() const {
    uint64_t total = 0;
    for (const UniqueFd& event : events_) {
        struct {
            uint64_t calls;
            uint64_t lost;
        } counts{};
        // A count that cannot be read must not pass for a complete record.
        const ssize_t n = ::read(event.get(), &counts, sizeof counts);
        total += n == sizeof counts ? counts.lost : 1;
    }
    return total;
}

}  // namespace memplate
