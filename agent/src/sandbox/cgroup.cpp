// SPDX-License-Identifier: Apache-2.0
#include "sandbox/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "util/fs.h"
#include "util/text.h"

namespace memplate::sandbox {
namespace {

constexpr const char* parent_name = "memplate";
constexpr const char* v1_controllers[] = {"memory", "cpu", "pids", "freezer"};
constexpr uint64_t cpu_period_us = 100'000;

std::string join(const std::string& hierarchy, const std::string& name) {
    return hierarchy.empty() ? name : hierarchy + "/" + name;
}

bool exists(int dirfd, const std::string& path) {
    return ::faccessat(dirfd, path.c_str(), F_OK, 0) == 0;
}

/// A hierarchy that this process may not change is as good as not mounted.
bool not_writable(int error) {
    return error == EROFS || error == EACCES || error == EPERM;
}

}  // namespace

Result<UniqueFd> Cgroup::open_host_root() {
    return open_at(AT_FDCWD, "/sys/fs/cgroup", O_RDONLY | O_DIRECTORY);
}

Result<Cgroup> Cgroup::find(const UniqueFd& root, const std::string& id) {
    TRY_ASSIGN(UniqueFd own_root, root.duplicate());
    Cgroup group(std::move(own_root), id);
    group.unified_ = exists(group.root_.get(), "cgroup.controllers");
    if (group.unified_) {
        group.hierarchies_.emplace_back();
        return group;
    }
    for (const char* controller : v1_controllers) {
        if (exists(group.root_.get(), join(controller, "cgroup.procs")))
            group.hierarchies_.emplace_back(controller);
    }
    return group;
}

Result<Cgroup> Cgroup::create(const UniqueFd& root, const std::string& id) {
    TRY_ASSIGN(Cgroup group, find(root, id));
    TRY(group.make());
    return group;
}

Result<Cgroup> Cgroup::open(const UniqueFd& root, const std::string& id) {
    TRY_ASSIGN(Cgroup group, find(root, id));
    for (const auto& hierarchy : group.hierarchies_) {
        std::string path = join(hierarchy, std::string(parent_name) + "/" + id);
        if (exists(group.root_.get(), path)) group.groups_.push_back(std::move(path));
    }
    return group;
}

Result<> Cgroup::make() {
    const int root = root_.get();
    for (const auto& hierarchy : hierarchies_) {
        const std::string parent = join(hierarchy, parent_name);
        const std::string path = parent + "/" + id_;
        // Another agent may remove the empty parent between the two calls: then both again.
        for (int attempt = 0;; ++attempt) {
            int error = ::mkdirat(root, parent.c_str(), 0755) == 0 ? 0 : errno;
            if (error == 0 || error == EEXIST) {
                if (unified_) {
                    // One write per controller: a missing one must not keep the others off.
                    for (const char* controller : {"+memory", "+cpu", "+pids"}) {
                        (void)write_control_file(root, "cgroup.subtree_control", controller);
                        (void)write_control_file(root, parent + "/cgroup.subtree_control",
                                                 controller);
                    }
                }
                error = ::mkdirat(root, path.c_str(), 0755) == 0 ? 0 : errno;
            }
            if (error == 0 || error == EEXIST) {
                groups_.push_back(path);
                break;
            }
            if (not_writable(error)) break;
            if (error != ENOENT || attempt == 20)
                return fail_errno(error, "make cgroup /sys/fs/cgroup/" + path);
        }
    }
    return {};
}

Result<> Cgroup::place(pid_t pid) const {
    for (const auto& group : groups_)
        TRY_CONTEXT(write_control_file(root_.get(), group + "/cgroup.procs", std::to_string(pid)),
                    "move a process into its cgroup");
    return {};
}

uint64_t Cgroup::number() const {
    struct stat directory{};
    if (groups_.empty() || ::fstatat(root_.get(), groups_.front().c_str(), &directory, 0) != 0)
        return 0;
    return directory.st_ino;
}

Result<> Cgroup::write_limit(const std::string& controller, const std::string& file,
                             const std::string& value) const {
    const std::string path =
        join(unified_ ? "" : controller, fmt::format("{}/{}/{}", parent_name, id_, file));
    auto written = write_control_file(root_.get(), path, value);
    if (written) return written;
    if (written.error().code == ENOENT)
        return fail(ErrorKind::unsupported,
                    fmt::format("{} limit: the cgroup controller '{}' is not available; enable it "
                                "for /sys/fs/cgroup or leave the limit out",
                                controller, controller));
    return Failure(std::move(written.error()).context(controller + " limit"));
}

Result<> Cgroup::apply(const Limits& limits) const {
    if (limits.memory_bytes) {
        const std::string bytes = std::to_string(*limits.memory_bytes);
        TRY(write_limit("memory", unified_ ? "memory.max" : "memory.limit_in_bytes", bytes));
        // The limit is one of all its memory: none of it goes to swap instead, where the kernel
        // keeps account of that.
        auto no_swap = unified_ ? write_limit("memory", "memory.swap.max", "0")
                                : write_limit("memory", "memory.memsw.limit_in_bytes", bytes);
        if (!no_swap && no_swap.error().kind != ErrorKind::unsupported) return no_swap;
    }
    if (limits.cpus) {
        if (!(*limits.cpus > 0) || *limits.cpus > 1e6)
            return fail(ErrorKind::usage,
                        fmt::format("cpu limit: {} is not a number of CPUs", *limits.cpus));
        // The kernel's smallest quota is 1 ms.
        const auto quota = std::max<uint64_t>(
            1000, static_cast<uint64_t>(std::llround(*limits.cpus * cpu_period_us)));
        if (unified_) {
            TRY(write_limit("cpu", "cpu.max", fmt::format("{} {}", quota, cpu_period_us)));
        } else {
            TRY(write_limit("cpu", "cpu.cfs_period_us", std::to_string(cpu_period_us)));
            TRY(write_limit("cpu", "cpu.cfs_quota_us", std::to_string(quota)));
        }
    }
    if (limits.processes) TRY(write_limit("pids", "pids.max", std::to_string(*limits.processes)));
    return {};
}

Result<std::vector<pid_t>> Cgroup::processes() const {
    std::vector<pid_t> pids;
    for (const auto& group : groups_) {
        auto text = read_file_at(root_.get(), group + "/cgroup.procs");
        if (!text) {
            if (text.error().code == ENOENT || text.error().code == ENODEV) continue;
            return std::unexpected(std::move(text.error()));
        }
        for (const auto& line : split(*text, '\n')) {
            if (line.empty()) continue;
            TRY_ASSIGN(const uint64_t pid, parse_unsigned(line));
            if (pid > 0) pids.push_back(static_cast<pid_t>(pid));
        }
    }
    std::ranges::sort(pids);
    const auto repeated = std::ranges::unique(pids);
    pids.erase(repeated.begin(), repeated.end());
    return pids;
}

Result<> Cgroup::kill_all(std::chrono::milliseconds timeout) const {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    for (;;) {
        TRY_ASSIGN(const std::vector<pid_t> pids, processes());
        if (pids.empty()) return {};
        if (std::chrono::steady_clock::now() > deadline)
            return fail(fmt::format("cgroup {}: process {} does not end", id_, pids.front()));
        const bool at_once =
            unified_ &&
            write_control_file(root_.get(), groups_.front() + "/cgroup.kill", "1").has_value();
        if (!at_once) {
            for (const pid_t pid : pids) ::kill(pid, SIGKILL);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

Result<> Cgroup::remove(std::chrono::milliseconds timeout) const {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    for (const auto& group : groups_) {
        while (::unlinkat(root_.get(), group.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
            if (errno != EBUSY || std::chrono::steady_clock::now() > deadline)
                return fail_errno(errno, "remove cgroup /sys/fs/cgroup/" + group);
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
    }
    // Fails while other sandboxes have groups in it, as it should.
    for (const auto& hierarchy : hierarchies_)
        ::unlinkat(root_.get(), join(hierarchy, parent_name).c_str(), AT_REMOVEDIR);
    return {};
}

}  // namespace memplate::sandbox
