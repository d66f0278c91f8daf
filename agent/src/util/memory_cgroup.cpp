// SPDX-License-Identifier: Apache-2.0
#include "util/memory_cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "util/fs.h"
#include "util/text.h"

namespace memplate {
namespace {

/// v1 writes "no limit" as the largest multiple of a page.
constexpr uint64_t no_limit = uint64_t{1} << 62;

bool exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

/// The whole of a small control file, without opening it again.
Result<std::string> read_open_file(const UniqueFd& fd, const char* name) {
    std::array<char, 16384> buffer;
    const ssize_t size = ::pread(fd.get(), buffer.data(), buffer.size(), 0);
    if (size < 0) return fail_errno(errno, name);
    return std::string(buffer.data(), static_cast<size_t>(size));
}

/// The number after "KEY " at the start of a line.
std::optional<uint64_t> field(std::string_view text, std::string_view key) {
    for (const std::string& line : split(text, '\n')) {
        if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ' ')
            continue;
        if (const auto value = parse_unsigned(std::string_view(line).substr(key.size() + 1)))
            return *value;
    }
    return std::nullopt;
}

constexpr std::string_view own_prefix = "cost-";

}  // namespace

Result<CgroupHierarchy> CgroupHierarchy::find(const std::string& mount) {
    if (exists(mount + "/cgroup.controllers")) return CgroupHierarchy{mount, true};
    if (exists(mount + "/memory/cgroup.procs")) return CgroupHierarchy{mount + "/memory", false};
    return fail(ErrorKind::unsupported,
                fmt::format("memory cgroups: neither the unified hierarchy nor the memory "
                            "controller is mounted at {}; mount one",
                            mount));
}

Result<MemoryCgroup> MemoryCgroup::open(const CgroupHierarchy& hierarchy, const std::string& path) {
    std::string full = path;
    if (!path.starts_with(hierarchy.root + "/"))
        full = hierarchy.root + (path.starts_with('/') ? "" : "/") + path;
    while (full.ends_with('/')) full.pop_back();
    MemoryCgroup group(hierarchy, full);
    auto opened = group.open_files();
    if (opened) return group;
    if (opened.error().code == ENOENT || opened.error().code == ENOTDIR)
        return fail(
            fmt::format("cgroup {}: {} has no memory cgroup of that path; give one as in "
                        "/proc/PID/cgroup",
                        path, hierarchy.root));
    return Failure(std::move(opened.error()).context("cgroup " + path));
}

Result<MemoryCgroup> MemoryCgroup::create(const CgroupHierarchy& hierarchy) {
    const std::string parent = hierarchy.root + "/memplate";
    remove_leftovers(hierarchy, parent);
    MemoryCgroup group(hierarchy, fmt::format("{}/{}{}", parent, own_prefix, ::getpid()));
    // Another agent may remove the empty parent between the two calls: then both again.
    for (int attempt = 0;; ++attempt) {
        int error = ::mkdir(parent.c_str(), 0755) == 0 ? 0 : errno;
        if (error == 0 || error == EEXIST) {
            if (hierarchy.unified)
                for (const std::string& folder : {hierarchy.root, parent})
                    (void)write_control_file(AT_FDCWD, folder + "/cgroup.subtree_control",
                                             "+memory");
            error = ::mkdir(group.path_.c_str(), 0755) == 0 ? 0 : errno;
        }
        if (error == 0) break;
        if (error == EACCES || error == EPERM || error == EROFS)
            return fail(ErrorKind::unsupported,
                        fmt::format("cgroup {}: {}; run as root, or follow an existing cgroup with "
                                    "--cgroup PATH",
                                    group.path_, ::strerror(error)));
        if (error != ENOENT || attempt == 20)
            return fail_errno(error, "make cgroup " + group.path_);
    }
    group.own_ = true;
    if (auto opened = group.open_files(); !opened)
        return fail(ErrorKind::unsupported,
                    fmt::format("cgroup {}: {}; enable the memory controller for {}", group.path_,
                                opened.error().message, hierarchy.root));
    (void)group.lock();
    return group;
}

void MemoryCgroup::remove_leftovers(const CgroupHierarchy& hierarchy, const std::string& parent) {
    const auto names = list_directory(AT_FDCWD, parent);
    if (!names) return;
    for (const std::string& name : *names) {
        if (!name.starts_with(own_prefix)) continue;
        const auto pid = parse_unsigned(std::string_view(name).substr(own_prefix.size()));
        if (!pid || ::kill(static_cast<pid_t>(*pid), 0) == 0 || errno != ESRCH) continue;
        MemoryCgroup group(hierarchy, parent + "/" + name);
        // Processes that outlived the measurement have its limit, and on v1 wait for memory
        // forever. Of a measurement in another pid namespace only the lock tells that it lives.
        group.own_ = group.open_files() && group.lock();
    }
}

MemoryCgroup::MemoryCgroup(MemoryCgroup&& other) noexcept
    : hierarchy_(std::move(other.hierarchy_)),
      path_(std::move(other.path_)),
      own_(std::exchange(other.own_, false)),
      directory_(std::move(other.directory_)),
      current_(std::move(other.current_)),
      peak_(std::move(other.peak_)),
      limit_(std::move(other.limit_)),
      stat_(std::move(other.stat_)) {}

MemoryCgroup::~MemoryCgroup() {
    if (!own_) return;
    constexpr std::chrono::seconds timeout(5);
    (void)kill_all(timeout);
    (void)remove(timeout);
}

bool MemoryCgroup::lock() const {
    return ::flock(directory_.get(), LOCK_EX | LOCK_NB) == 0;
}

Result<> MemoryCgroup::open_files() {
    TRY_ASSIGN(directory_, open_at(AT_FDCWD, path_, O_RDONLY | O_DIRECTORY));
    const bool v2 = unified();
    const auto file = [&](const char* name) { return open_at(directory_.get(), name, O_RDONLY); };
    TRY_ASSIGN(current_, file(v2 ? "memory.current" : "memory.usage_in_bytes"));
    TRY_ASSIGN(limit_, file(v2 ? "memory.max" : "memory.limit_in_bytes"));
    TRY_ASSIGN(stat_, file("memory.stat"));
    if (auto peak = file(v2 ? "memory.peak" : "memory.max_usage_in_bytes"))
        peak_ = std::move(*peak);
    return {};
}

Result<uint64_t> MemoryCgroup::read_counter(const UniqueFd& fd, const char* name) const {
    TRY_ASSIGN(const std::string text, read_open_file(fd, name));
    return parse_unsigned(trim(text));
}

Result<uint64_t> MemoryCgroup::current() const {
    return read_counter(current_, "memory usage");
}

Result<std::optional<uint64_t>> MemoryCgroup::peak() const {
    if (!peak_) return std::nullopt;
    TRY_ASSIGN(const uint64_t bytes, read_counter(peak_, "memory peak"));
    return bytes;
}

Result<std::optional<uint64_t>> MemoryCgroup::limit() const {
    TRY_ASSIGN(const std::string text, read_open_file(limit_, "memory limit"));
    if (trim(text) == "max") return std::nullopt;
    TRY_ASSIGN(const uint64_t bytes, parse_unsigned(trim(text)));
    return bytes < no_limit ? std::optional(bytes) : std::nullopt;
}

Result<uint64_t> MemoryCgroup::inactive_file() const {
    TRY_ASSIGN(const std::string text, read_open_file(stat_, "memory.stat"));
    const auto bytes = field(text, unified() ? "inactive_file" : "total_inactive_file");
    if (!bytes) return fail("memory.stat: no inactive_file in it");
    return *bytes;
}

Result<std::vector<pid_t>> MemoryCgroup::processes() const {
    std::vector<pid_t> pids;
    TRY_ASSIGN(const std::string text, read_file_at(directory_.get(), "cgroup.procs"));
    for (const std::string& line : split(text, '\n')) {
        if (line.empty()) continue;
        TRY_ASSIGN(const uint64_t pid, parse_unsigned(line));
        pids.push_back(static_cast<pid_t>(pid));
    }
    return pids;
}

Result<bool> MemoryCgroup::populated() const {
    if (unified()) {
        TRY_ASSIGN(const std::string text, read_file_at(directory_.get(), "cgroup.events"));
        return field(text, "populated").value_or(0) != 0;
    }
    // v1 does not count those of its descendants.
    std::vector<std::string> folders = {"."};
    while (!folders.empty()) {
        const std::string folder = std::move(folders.back());
        folders.pop_back();
        const auto text = read_file_at(directory_.get(), folder + "/cgroup.procs");
        if (!text) {
            if (folder == ".") return std::unexpected(text.error());
            continue;
        }
        if (!text->empty()) return true;
        const auto names = list_directory(directory_.get(), folder);
        if (!names) continue;
        for (const std::string& name : *names) {
            struct stat status{};
            const std::string path = folder + "/" + name;
            if (::fstatat(directory_.get(), path.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                S_ISDIR(status.st_mode))
                folders.push_back(path);
        }
    }
    return false;
}

Result<> MemoryCgroup::write(const char* name, const std::string& value) const {
    return write_control_file(directory_.get(), name, value);
}

Result<> MemoryCgroup::place(pid_t pid) const {
    return write("cgroup.procs", std::to_string(pid));
}

Result<> MemoryCgroup::set_limit(std::optional<uint64_t> bytes) const {
    if (unified()) return write("memory.max", bytes ? std::to_string(*bytes) : "max");
    return write("memory.limit_in_bytes", bytes ? std::to_string(*bytes) : "-1");
}

Result<> MemoryCgroup::set_high(std::optional<uint64_t> bytes) const {
    return write("memory.high", bytes ? std::to_string(*bytes) : "max");
}

Result<> MemoryCgroup::set_oom_kill(bool on) const {
    return write("memory.oom_control", on ? "0" : "1");
}

Result<bool> MemoryCgroup::waits_for_memory() const {
    TRY_ASSIGN(const std::string text, read_file_at(directory_.get(), "memory.oom_control"));
    return field(text, "under_oom").value_or(0) != 0;
}

Result<MemoryCgroup::Hits> MemoryCgroup::hits() const {
    Hits hits;
    if (!unified()) {
        TRY_ASSIGN(const std::string count, read_file_at(directory_.get(), "memory.failcnt"));
        TRY_ASSIGN(hits.limit, parse_unsigned(trim(count)));
        TRY_ASSIGN(const std::string oom, read_file_at(directory_.get(), "memory.oom_control"));
        hits.killed = field(oom, "oom_kill").value_or(0);
        return hits;
    }
    TRY_ASSIGN(const std::string text, read_file_at(directory_.get(), "memory.events"));
    hits.limit = field(text, "high").value_or(0) + field(text, "max").value_or(0);
    hits.killed = field(text, "oom_kill").value_or(0);
    return hits;
}

Result<UniqueFd> MemoryCgroup::pressure_trigger(std::chrono::microseconds stall,
                                                std::chrono::microseconds window) const {
    TRY_ASSIGN(UniqueFd fd, open_at(directory_.get(), "memory.pressure", O_RDWR | O_NONBLOCK));
    const std::string text = fmt::format("some {} {}", stall.count(), window.count());
    // The kernel wants the terminating zero.
    if (::write(fd.get(), text.c_str(), text.size() + 1) < 0)
        return fail_errno(errno, "memory.pressure");
    return fd;
}

Result<> MemoryCgroup::kill_all(std::chrono::milliseconds timeout) const {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    for (;;) {
        TRY_ASSIGN(const std::vector<pid_t> pids, processes());
        if (pids.empty()) return {};
        if (std::chrono::steady_clock::now() > deadline)
            return fail(fmt::format("cgroup {}: process {} does not end", path_, pids.front()));
        if (!unified() || !write("cgroup.kill", "1"))
            for (const pid_t pid : pids) ::kill(pid, SIGKILL);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

Result<> MemoryCgroup::remove(std::chrono::milliseconds timeout) const {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (::rmdir(path_.c_str()) != 0 && errno != ENOENT) {
        if (errno != EBUSY || std::chrono::steady_clock::now() > deadline)
            return fail_errno(errno, "remove cgroup " + path_);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    // Fails while others have groups in it, as it should.
    ::rmdir((hierarchy_.root + "/memplate").c_str());
    return {};
}

}  // namespace memplate
