// SPDX-License-Identifier: Apache-2.0
#include "instance/state.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "engine/engine.h"
#include "sandbox/sandbox.h"
#include "util/fs.h"
#include "util/lock.h"
#include "util/proc.h"
#include "util/text.h"

namespace memplate::instance {
namespace {

constexpr size_t kept_logs = 64;

std::string instances_path(const Context& context) {
    return context.settings.state_dir + "/instances";
}

std::string builds_path(const Context& context) {
    return context.settings.cache_dir + "/build";
}

Result<LockFile> lock_state(const Context& context) {
    TRY(make_private_directory(context.settings.state_dir, 0711));
    return LockFile::acquire(context.settings.state_dir + "/lock");
}

Result<uint64_t> next_generation(const Context& context) {
    const std::string path = context.settings.state_dir + "/generation";
    uint64_t generation = 0;
    if (const auto text = read_file(path)) {
        if (const auto number = parse_unsigned(trim(*text))) generation = *number;
    }
    ++generation;
    TRY(write_file_atomic(AT_FDCWD, path, std::to_string(generation)));
    return generation;
}

Result<std::vector<std::string>> instance_names(const Context& context) {
    auto names = list_directory(AT_FDCWD, instances_path(context));
    if (!names && names.error().code == ENOENT) return std::vector<std::string>();  // none yet
    return names;
}

Result<Record> load(const std::string& directory) {
    TRY_ASSIGN(const std::string text, read_file(directory + "/state.json"));
    return Record::from_json(Json::parse(text, nullptr, false));
}

/// Held by the agent and its keeper: while anybody lives who may use the directory.
constexpr const char* life_lock = "/lock";
/// Held by the agent alone: while it is making the instance.
constexpr const char* agent_lock = "/agent.lock";

/// A lock of a directory, if nobody holds it.
Result<UniqueFd> take_free_lock(const std::string& directory, const char* which) {
    TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD, directory + which, O_RDWR | O_CREAT, 0600));
    TRY_ASSIGN(const bool taken, try_lock_range(fd.get(), LockMode::exclusive, 0, 1));
    if (!taken) return UniqueFd();
    return fd;
}

Result<> remove_remains(const Context& context, const std::string& id, const std::string& path,
                        bool kill_keeper) {
    TRY(sandbox::destroy_remains(context, path, kill_keeper));
    TRY(remove_tree(build_directory(context, id)));
    return remove_tree(path);
}

}  // namespace

Directory::Directory(const Context& context, std::string id, std::string path, UniqueFd lock,
                     UniqueFd agent_lock, uint64_t generation)
    : context_(&context),
      id_(std::move(id)),
      path_(std::move(path)),
      lock_(std::move(lock)),
      agent_lock_(std::move(agent_lock)),
      generation_(generation) {}

Directory::Directory(Directory&& other) noexcept
    : context_(other.context_),
      id_(std::move(other.id_)),
      path_(std::exchange(other.path_, {})),
      lock_(std::move(other.lock_)),
      agent_lock_(std::move(other.agent_lock_)),
      generation_(other.generation_),
      kept_(other.kept_) {}

Directory& Directory::operator=(Directory&& other) noexcept {
    std::swap(context_, other.context_);
    std::swap(id_, other.id_);
    std::swap(path_, other.path_);
    std::swap(lock_, other.lock_);
    std::swap(agent_lock_, other.agent_lock_);
    std::swap(generation_, other.generation_);
    std::swap(kept_, other.kept_);
    return *this;
}

Directory::~Directory() {
    if (path_.empty() || kept_) return;
    (void)remove_remains(*context_, id_, path_, false);
}

Result<Directory> Directory::create(const Context& context, const std::string& prefix) {
    // An id is also a host name: no dots, no underscores, not too long.
    std::string name = prefix.substr(0, 48);
    std::ranges::replace_if(name, [](char c) { return c == '.' || c == '_'; }, '-');
    TRY_ASSIGN(const LockFile state_lock, lock_state(context));
    TRY_ASSIGN(const uint64_t generation, next_generation(context));
    TRY(make_directories(instances_path(context), 0711));
    for (;;) {
        const std::string id = name + "-" + random_hex(3);
        const std::string path = instances_path(context) + "/" + id;
        if (::mkdir(path.c_str(), 0700) != 0) {
            if (errno == EEXIST) continue;
            return fail_errno(errno, path);
        }
        TRY_ASSIGN(UniqueFd lock, take_free_lock(path, life_lock));
        TRY_ASSIGN(UniqueFd agent, take_free_lock(path, agent_lock));
        if (!lock || !agent)
            return fail(fmt::format("{}: somebody holds the lock of a new instance", path));
        return Directory(context, id, path, std::move(lock), std::move(agent), generation);
    }
}

Json Record::to_json() const {
    return Json{{"id", id},          {"template", template_name}, {"pool", pool},
                {"engine", engine},  {"address", address},        {"port", port},
                {"pid", pid},        {"keeper", keeper},          {"ready_ms", ready_ms},
                {"created", created}};
}

Result<Record> Record::from_json(const Json& json) {
    if (!json.is_object()) return fail("state.json: not a JSON object");
    try {
        Record record;
        record.id = json.at("id");
        record.template_name = json.at("template");
        record.pool = json.at("pool");
        record.engine = json.at("engine");
        record.address = json.at("address");
        record.port = json.at("port");
        record.pid = json.at("pid");
        record.keeper = json.at("keeper");
        record.ready_ms = json.at("ready_ms");
        record.created = json.at("created");
        return record;
    } catch (const Json::exception& error) {
        return fail(fmt::format("state.json: {}", error.what()));
    }
}

Result<> save(const Directory& directory, const Record& record) {
    return write_file_atomic(AT_FDCWD, directory.path() + "/state.json",
                             record.to_json().dump(2) + "\n", 0600);
}

Result<std::vector<Record>> list(const Context& context) {
    std::vector<Record> records;
    TRY_ASSIGN(const auto names, instance_names(context));
    for (const std::string& name : names) {
        if (auto record = load(instances_path(context) + "/" + name))
            records.push_back(std::move(*record));
    }
    std::ranges::stable_sort(records, {}, &Record::created);
    return records;
}

Result<> sweep(const Context& context) {
    if (::geteuid() != 0)
        return fail(ErrorKind::unsupported,
                    "instances need root: namespaces, mounts and cgroups are made; use sudo");
    TRY_ASSIGN(const LockFile state_lock, lock_state(context));
    TRY_ASSIGN(const auto names, instance_names(context));
    for (const std::string& name : names) {
        const std::string path = instances_path(context) + "/" + name;
        auto lock = take_free_lock(path, life_lock);
        if (!lock && lock.error().code == ENOENT) continue;  // removed meanwhile
        if (!lock) return Failure(std::move(lock.error()));
        bool keeper_must_go = false;
        if (!*lock && ::access((path + "/state.json").c_str(), F_OK) != 0) {
            // Half-made: if its agent is dead, its keeper is about to find out. Do not wait for it.
            TRY_ASSIGN(const UniqueFd agent, take_free_lock(path, agent_lock));
            keeper_must_go = static_cast<bool>(agent);
        }
        if (*lock || keeper_must_go)
            TRY_CONTEXT(remove_remains(context, name, path, keeper_must_go), "clean up " + name);
    }
    // A checkpoint under way belongs to the instance of the same name.
    if (const auto builds = list_directory(AT_FDCWD, builds_path(context))) {
        for (const std::string& name : *builds) {
            const std::string path = instances_path(context) + "/" + name;
            if (::access(path.c_str(), F_OK) != 0)
                TRY(remove_tree(builds_path(context) + "/" + name));
        }
    }
    TRY(engine::drop_stale(context));
    return sandbox::remove_unused_bridge(context);
}

namespace {

/// Sends SIGTERM and waits, without the lock: others start and stop instances meanwhile. False if
/// there was nobody to ask.
Result<bool> ask_to_end(const Context& context, const std::string& path, int grace_ms) {
    std::optional<LockFile> state_lock;
    TRY_ASSIGN(state_lock, lock_state(context));
    TRY_ASSIGN(const UniqueFd probe, open_at(AT_FDCWD, path + "/lock", O_RDWR));
    const auto keeper_lives = [&] {
        const auto locked = range_is_locked(probe.get(), LockMode::exclusive, 0, 1);
        return locked && *locked;
    };
    const auto record = load(path);
    if (!record || record->pid <= 0 || !keeper_lives()) return false;
    // The keeper is the root's reaper: while it lives the pid cannot belong to somebody else.
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, record->pid, 0)));
    if (process) ::syscall(SYS_pidfd_send_signal, process.get(), SIGTERM, nullptr, 0);
    state_lock.reset();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(grace_ms);
    while (keeper_lives() && std::chrono::steady_clock::now() < deadline) {
        if (context.stop.stop_requested()) return interrupted();
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
}

}  // namespace

Result<> stop(const Context& context, const std::string& id, int grace_ms) {
    TRY(check_name("instance id", id));
    const std::string path = instances_path(context) + "/" + id;
    if (::access(path.c_str(), F_OK) != 0)
        return fail(fmt::format("no instance {}; memplate ps lists them", id));
    TRY_ASSIGN(const bool waited, ask_to_end(context, path, grace_ms));
    TRY_ASSIGN(const LockFile state_lock, lock_state(context));
    // Who swept meanwhile has removed what was left.
    if (waited && ::access(path.c_str(), F_OK) != 0) return {};
    return remove_remains(context, id, path, true);
}

CleanExit::~CleanExit() {
    if (const auto cleaned = sandbox::remove_unused_bridge(context_); !cleaned)
        context_.log->warn("{}", cleaned.error().message);
}

std::string build_directory(const Context& context, const std::string& id) {
    return builds_path(context) + "/" + id;
}

std::string keep_log(const Context& context, const std::string& source, const std::string& name) {
    const std::string directory = context.settings.state_dir + "/log";
    const auto text = read_file(source);
    if (!text || !make_directories(directory, 0700)) return source;
    std::string path = fmt::format("{}/{}", directory, name);
    if (!write_file_atomic(AT_FDCWD, path, *text, 0600)) return source;
    if (const auto names = list_directory(AT_FDCWD, directory);
        names && names->size() > kept_logs) {
        std::vector<std::pair<int64_t, std::string>> by_age;
        for (const std::string& log : *names) {
            struct stat st{};
            if (::stat((directory + "/" + log).c_str(), &st) == 0)
                by_age.emplace_back(st.st_mtime, log);
        }
        std::ranges::sort(by_age);
        for (size_t i = 0; i + kept_logs < by_age.size(); ++i)
            (void)remove_tree(directory + "/" + by_age[i].second);
    }
    return path;
}

}  // namespace memplate::instance
