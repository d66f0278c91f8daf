// SPDX-License-Identifier: Apache-2.0
#include "sandbox/remains.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "sandbox/cgroup.h"
#include "sandbox/launch.h"
#include "sandbox/network.h"
#include "sandbox/sandbox.h"
#include "util/fs.h"
#include "util/json.h"
#include "util/lock.h"
#include "util/proc.h"
#include "util/text.h"

namespace memplate::sandbox {
namespace {

constexpr std::chrono::seconds end_timeout{10};

struct Record {
    std::string id;
    pid_t keeper = 0;
    uint64_t start_time = 0;  ///< with the pid, names the process uniquely
};

/// nullopt: no sandbox got as far as to be recorded, so nothing was made.
Result<std::optional<Record>> read_record(const std::string& directory) {
    const std::string path = directory + "/sandbox.json";
    auto text = read_file(path);
    if (!text && text.error().code == ENOENT) return std::optional<Record>();
    if (!text) return std::unexpected(std::move(text.error()));
    try {
        const Json json = Json::parse(*text);
        Record record{json.at("id").get<std::string>(), json.at("keeper").get<pid_t>(),
                      json.at("start_time").get<uint64_t>()};
        if (record.id.empty() || record.id.find('/') != std::string::npos ||
            record.id.find('.') != std::string::npos || record.keeper <= 1)
            return fail(fmt::format("{}: damaged; remove the directory", path));
        return std::optional(std::move(record));
    } catch (const std::exception& error) {
        return fail(fmt::format("{}: damaged ({}); remove the directory", path, error.what()));
    }
}

Result<> kill_keeper_process(const Record& record) {
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, record.keeper, 0)));
    if (!process) return {};  // it has ended
    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    const auto stat = proc::stat(proc.get(), record.keeper);
    if (!stat || stat->start_time != record.start_time) return {};  // the pid is another's now
    ::syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0);
    TRY_ASSIGN(const bool ended, wait_process_end(process, end_timeout));
    if (!ended) return fail(fmt::format("keeper {} of {} does not end", record.keeper, record.id));
    return {};
}

Result<> wait_for_lock(const std::string& directory) {
    TRY_ASSIGN(const UniqueFd lock, open_at(AT_FDCWD, directory + "/lock", O_RDWR));
    const auto deadline = std::chrono::steady_clock::now() + end_timeout;
    for (;;) {
        TRY_ASSIGN(const bool held, range_is_locked(lock.get(), LockMode::exclusive, 0, 0));
        if (!held) return {};
        if (std::chrono::steady_clock::now() > deadline)
            return fail(
                fmt::format("{}/lock: still held, the keeper is dead; is another memplate "
                            "working on this instance?",
                            directory));
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

}  // namespace

Result<> record_sandbox(const std::string& directory, const std::string& id, pid_t keeper) {
    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    TRY_ASSIGN(const proc::Stat stat, proc::stat(proc.get(), keeper));
    const Json record{{"id", id}, {"keeper", keeper}, {"start_time", stat.start_time}};
    return write_file_atomic(AT_FDCWD, directory + "/sandbox.json", record.dump() + "\n");
}

void forget_sandbox(const std::string& directory) {
    ::unlink((directory + "/sandbox.json").c_str());
}

Result<std::vector<pid_t>> namespace_processes(pid_t keeper) {
    const auto namespace_of = [](const std::string& pid) {
        std::array<char, 64> link{};
        const ssize_t n =
            ::readlink(("/proc/" + pid + "/ns/pid").c_str(), link.data(), link.size());
        return std::string(link.data(), static_cast<size_t>(std::max<ssize_t>(n, 0)));
    };
    const std::string wanted = namespace_of(std::to_string(keeper));
    if (wanted.empty()) return fail_errno(ESRCH, "the keeper");
    std::vector<pid_t> pids;
    TRY_ASSIGN(const auto names, list_directory(AT_FDCWD, "/proc"));
    for (const auto& name : names) {
        const auto pid = parse_unsigned(name);
        if (pid && namespace_of(name) == wanted) pids.push_back(static_cast<pid_t>(*pid));
    }
    return pids;
}

Result<> destroy_remains(const Context& context, const std::string& directory, bool kill_keeper) {
    TRY_ASSIGN(const auto record, read_record(directory));
    if (!record) return {};
    if (kill_keeper) TRY(kill_keeper_process(*record));
    TRY_ASSIGN(const UniqueFd root, Cgroup::open_host_root());
    TRY_ASSIGN(const Cgroup cgroup, Cgroup::open(root, record->id));
    TRY(cgroup.kill_all(end_timeout));
    if (kill_keeper) TRY(wait_for_lock(directory));
    TRY(cgroup.remove(end_timeout));
    TRY(disconnect_network(context, directory));
    forget_sandbox(directory);
    return {};
}

}  // namespace memplate::sandbox
