// SPDX-License-Identifier: Apache-2.0
//
// The clients' side of holders, and starting one.
#include "engine/holder.h"

#include <fcntl.h>
#include <spawn.h>
#include <spdlog/logger.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "engine/holder_process.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/lock.h"
#include "util/message.h"
#include "util/text.h"

namespace memplate::engine {
namespace {

/// More processes than this have too many descriptors for one message.
constexpr size_t max_processes = 240;

std::string held_path(const Context& context) {
    return context.settings.state_dir + "/held";
}

Result<UniqueFd> open_held(const Context& context) {
    TRY(make_private_directory(context.settings.state_dir, 0711));
    TRY(make_directories(held_path(context), 0700));
    return open_at(AT_FDCWD, held_path(context), O_RDONLY | O_DIRECTORY);
}

/// Through the directory's descriptor: its path may be longer than a socket's may be.
sockaddr_un socket_address(int directory, const std::string& key) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = fmt::format("/proc/self/fd/{}/{}.socket", directory, key);
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    return address;
}

Result<UniqueFd> make_socket() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!fd) return fail_errno(errno, "socket");
    return fd;
}

/// A connection to a living holder; none if there is none.
std::optional<UniqueFd> connect_holder(int directory, const std::string& key) {
    auto fd = make_socket();
    if (!fd) return std::nullopt;
    // A holder answers at once; one that is stopped must not stop us, whose queue may be full.
    const timeval patience{.tv_sec = 5, .tv_usec = 0};
    for (const int timeout : {SO_SNDTIMEO, SO_RCVTIMEO})
        ::setsockopt(fd->get(), SOL_SOCKET, timeout, &patience, sizeof patience);
    const sockaddr_un address = socket_address(directory, key);
    if (::connect(fd->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return std::nullopt;
    return std::move(*fd);
}

/// Sends one request and waits for the reply and its descriptors.
Result<Json> ask(const UniqueFd& holder, std::string_view operation,
                 std::vector<UniqueFd>& descriptors) {
    const Json request{{"operation", operation}};
    if (const int error = send_message(holder.get(), request.dump(), {}); error != 0)
        return fail_errno(error, "ask a holder");
    std::string body;
    std::vector<int> numbers;
    const int error = receive_message(holder.get(), body, numbers);
    for (const int number : numbers) descriptors.emplace_back(number);
    if (error != 0) return fail_errno(error, "answer of a holder");
    Json reply = Json::parse(body, nullptr, false);
    if (!reply.is_object()) return fail("answer of a holder: not understood");
    return reply;
}

std::optional<ModuleTemplates> take(int directory, const std::string& key) {
    const auto holder = connect_holder(directory, key);
    if (!holder) return std::nullopt;
    std::vector<UniqueFd> descriptors;
    const auto reply = ask(*holder, "take", descriptors);
    if (!reply) return std::nullopt;
    const Json processes = reply->value("processes", Json::array());
    if (!processes.is_array() || processes.size() != descriptors.size()) return std::nullopt;
    std::vector<ModuleTemplates::Process> taken;
    for (size_t i = 0; i < descriptors.size(); ++i) {
        const Json& entry = processes[i];
        if (!entry.is_object()) return std::nullopt;
        taken.push_back({entry.value("pid", 0U), entry.value("mapped", false),
                         ModuleTemplate(std::move(descriptors[i]))});
    }
    return ModuleTemplates(std::move(taken));
}

/// Returns when the holder has closed what it held: our connection is the last.
void end(const UniqueFd& holder) {
    std::vector<UniqueFd> none;
    (void)ask(holder, "end", none);
}

Result<UniqueFd> listen_at(int directory, const std::string& key) {
    if (::unlinkat(directory, (key + ".socket").c_str(), 0) != 0 && errno != ENOENT)
        return fail_errno(errno, "socket of a killed holder");
    TRY_ASSIGN(auto fd, make_socket());
    const sockaddr_un address = socket_address(directory, key);
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(fd.get(), 64) != 0)
        return fail_errno(errno, "socket of a holder");
    return fd;
}

class SpawnActions {
  public:
    SpawnActions() { ::posix_spawn_file_actions_init(&actions_); }
    SpawnActions(const SpawnActions&) = delete;
    SpawnActions& operator=(const SpawnActions&) = delete;
    ~SpawnActions() { ::posix_spawn_file_actions_destroy(&actions_); }
    posix_spawn_file_actions_t* get() { return &actions_; }

  private:
    posix_spawn_file_actions_t actions_{};
};

/// Runs this program as a holder; `descriptors` become numbers 3, 4, 5, …
Result<> spawn_holder(const std::string& argument, const std::vector<int>& descriptors) {
    SpawnActions actions;
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        ::posix_spawn_file_actions_addopen(actions.get(), standard, "/dev/null", O_RDWR, 0);
    const int end = holder_first_descriptor + static_cast<int>(descriptors.size());
    std::vector<UniqueFd> sources;
    for (const int fd : descriptors) {
        // Out of the way of the numbers that are being given.
        UniqueFd source(::fcntl(fd, F_DUPFD_CLOEXEC, end));
        if (!source) return fail_errno(errno, "duplicate a descriptor");
        const int number = holder_first_descriptor + static_cast<int>(sources.size());
        ::posix_spawn_file_actions_adddup2(actions.get(), source.get(), number);
        sources.push_back(std::move(source));
    }
    ::posix_spawn_file_actions_addclosefrom_np(actions.get(), end);

    std::string name = "memplate";
    std::string mode = holder_mode;
    std::string text = argument;
    std::array<char*, 4> argv{name.data(), mode.data(), text.data(), nullptr};
    pid_t pid = -1;
    const int error =
        ::posix_spawn(&pid, "/proc/self/exe", actions.get(), nullptr, argv.data(), environ);
    if (error != 0) return fail_errno(error, "start a holder");
    // It forks once more and leaves: the holder is nobody's child but init's.
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (status != 0) return fail("a holder could not be started");
    return {};
}

Result<> start(int directory, const Held& held, const ModuleTemplates& templates) {
    if (templates.processes().size() > max_processes)
        return fail(fmt::format("{} processes are too many to hold", templates.processes().size()));
    Json argument = held.to_json();
    argument["processes"] = Json::array();
    TRY_ASSIGN(const UniqueFd listener, listen_at(directory, held.key));
    std::vector<int> descriptors{directory, listener.get()};
    for (const auto& process : templates.processes()) {
        argument["processes"].push_back({{"pid", process.pid}, {"mapped", process.mapped}});
        descriptors.push_back(process.memory.fd());
    }
    if (templates.pin()) descriptors.push_back(templates.pin()->fd());
    TRY(write_file_atomic(directory, held.key + ".json", held.to_json().dump(), 0600));
    return spawn_holder(argument.dump(), descriptors);
}

Result<std::vector<Held>> list_held(int directory) {
    std::vector<Held> list;
    TRY_ASSIGN(const auto names, list_directory(directory, "."));
    for (const std::string& name : names) {
        if (!name.ends_with(".json")) continue;
        const auto text = read_file_at(directory, name);
        if (!text) continue;
        if (auto held = Held::from_json(Json::parse(*text, nullptr, false)))
            list.push_back(std::move(*held));
    }
    return list;
}

/// Nobody listens any more: its files go.
void forget(int directory, const std::string& key) {
    for (const char* suffix : {".socket", ".json"})
        ::unlinkat(directory, (key + suffix).c_str(), 0);
}

/// Held while a template is built and its holder started, or while a holder ends. It goes with the
/// descriptor.
Result<UniqueFd> lock_key(int directory, const std::string& key) {
    TRY_ASSIGN(UniqueFd file, open_at(directory, holder_lock, O_RDWR | O_CREAT, 0600));
    TRY(lock_range(file.get(), LockMode::exclusive, holder_lock_offset(key), 1));
    return file;
}

/// Nothing if somebody else has it.
Result<std::optional<UniqueFd>> try_lock_key(int directory, const std::string& key) {
    TRY_ASSIGN(UniqueFd file, open_at(directory, holder_lock, O_RDWR | O_CREAT, 0600));
    TRY_ASSIGN(const bool locked,
               try_lock_range(file.get(), LockMode::exclusive, holder_lock_offset(key), 1));
    if (!locked) return std::nullopt;
    return file;
}

}  // namespace

Json Held::to_json() const {
    return Json{{"key", key},
                {"pool", pool_uuid},
                {"pool_path", pool_path},
                {"template", template_id},
                {"seconds", seconds}};
}

Result<Held> Held::from_json(const Json& json) {
    try {
        return Held{json.at("key"), json.at("pool"), json.at("pool_path"), json.at("template"),
                    json.at("seconds")};
    } catch (const Json::exception& error) {
        return fail(fmt::format("holder: {}", error.what()));
    }
}

std::string held_key(const std::string& pool_uuid, const pool::TemplateRecord& record,
                     const std::string& plan) {
    constexpr int protocol = 2;
    const std::string name =
        fmt::format("{} {} {} {} ", protocol, pool_uuid, record.id, record.hash);
    Xxh3Stream hash;
    hash.update(bytes_of(name));
    hash.update(bytes_of(plan));
    return hash.hex();
}

Result<ModuleTemplates> hold_or_build(const Context& context, const Held& held,
                                      const std::function<Result<ModuleTemplates>()>& build) {
    TRY_ASSIGN(const UniqueFd directory, open_held(context));
    if (auto taken = take(directory.get(), held.key)) return std::move(*taken);
    TRY_ASSIGN(const UniqueFd lock, lock_key(directory.get(), held.key));
    if (auto taken = take(directory.get(), held.key)) return std::move(*taken);
    TRY_ASSIGN(auto built, build());
    if (const auto started = start(directory.get(), held, built); !started)
        context.log->warn("the template is not kept in the module: {}", started.error().message);
    return built;
}

Result<> end_holders(const Context& context, const std::string& pool_uuid, uint64_t template_id) {
    TRY_ASSIGN(const UniqueFd directory, open_held(context));
    TRY_ASSIGN(const auto list, list_held(directory.get()));
    for (const Held& held : list) {
        if (held.pool_uuid != pool_uuid) continue;
        if (template_id != 0 && held.template_id != template_id) continue;
        TRY_ASSIGN(const UniqueFd lock, lock_key(directory.get(), held.key));
        if (const auto holder = connect_holder(directory.get(), held.key)) end(*holder);
        forget(directory.get(), held.key);
    }
    return {};
}

Result<> sweep_holders(const Context& context) {
    TRY_ASSIGN(const UniqueFd directory, open_held(context));
    TRY_ASSIGN(const auto list, list_held(directory.get()));
    for (const Held& held : list) {
        // Whoever has the lock builds this template, which may take long, or ends its holder.
        TRY_ASSIGN(const auto lock, try_lock_key(directory.get(), held.key));
        if (!lock) continue;
        const auto holder = connect_holder(directory.get(), held.key);
        const bool orphaned = ::access(held.pool_path.c_str(), F_OK) != 0 && errno == ENOENT;
        if (holder && !orphaned) continue;
        if (holder) end(*holder);
        forget(directory.get(), held.key);
    }
    return {};
}

}  // namespace memplate::engine
