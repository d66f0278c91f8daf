// SPDX-License-Identifier: Apache-2.0
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "sandbox/cgroup.h"
#include "sandbox/client.h"
#include "sandbox/kdat.h"
#include "sandbox/launch.h"
#include "sandbox/message.h"
#include "sandbox/network.h"
#include "sandbox/remains.h"
#include "util/fs.h"

namespace memplate::sandbox {
namespace {

constexpr std::chrono::seconds end_timeout{10};

Result<> check_spec(const Spec& spec) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    };
    if (spec.id.empty() || spec.id.size() > 63 || !std::ranges::all_of(spec.id, allowed))
        return fail(ErrorKind::usage,
                    fmt::format("sandbox id '{}': use 1 to 63 of a-z, 0-9 and '-'", spec.id));
    if (!spec.root.starts_with('/'))
        return fail(ErrorKind::usage, fmt::format("root '{}': not an absolute path", spec.root));
    for (const auto& bind : spec.binds) {
        if (!bind.source.starts_with('/') || !bind.target.starts_with('/') || bind.target == "/")
            return fail(ErrorKind::usage, fmt::format("bind '{}' on '{}': both must be absolute "
                                                      "paths, the second not the root",
                                                      bind.source, bind.target));
    }
    return {};
}

/// How CRIU is started inside, by the loader and with the libraries that came with it.
Result<std::vector<std::string>> criu_command(const std::string& criu_root) {
    constexpr const char* loaders[][2] = {
        {"/usr/lib/x86_64-linux-gnu", "/ld-linux-x86-64.so.2"},
        {"/usr/lib/aarch64-linux-gnu", "/ld-linux-aarch64.so.1"},
        {"/usr/lib64", "/ld-linux-x86-64.so.2"},
        {"/usr/lib", "/ld-linux-aarch64.so.1"},
    };
    const std::string inside(criu_mount);
    for (const auto& [folder, loader] : loaders) {
        // Not through a link: an absolute one would lead to the function's own loader.
        struct stat st{};
        const std::string path = criu_root + folder + loader;
        if (::lstat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
        return std::vector<std::string>{inside + folder + loader, "--library-path", inside + folder,
                                        inside + "/usr/sbin/criu"};
    }
    return fail(ErrorKind::unsupported,
                fmt::format("{}: no dynamic loader below usr/lib; set 'criu_root' to a directory "
                            "with CRIU and its libraries",
                            criu_root));
}

/// The keeper's map arguments: numbers in the request, descriptors beside it.
std::pair<Json, std::vector<int>> descriptor_list(const std::map<int, int>& descriptors) {
    Json numbers = Json::array();
    std::vector<int> beside;
    for (const auto& [number, fd] : descriptors) {
        numbers.push_back(number);
        beside.push_back(fd);
    }
    return {std::move(numbers), std::move(beside)};
}

}  // namespace

struct Sandbox::State {
    Context context;
    std::string id;
    std::string directory;
    std::string criu_root;
    std::string address;
    Keeper keeper;
    Client client;
    std::optional<Cgroup> cgroup;
    bool kdat_missing = false;
    bool released = false;

    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
        if (!released) destroy();
    }

    Result<Reply> call(const Json& request, const std::vector<int>& descriptors = {}) {
        auto reply = client.call(request, descriptors);
        if (reply || reply.error().code != EPIPE) return reply;
        return Failure(std::move(reply.error())
                           .context(fmt::format("sandbox {} (see {}/keeper.log)", id, directory)));
    }

    void warn(const Result<>& result) const {
        if (!result && context.log) context.log->warn("sandbox {}: {}", id, result.error().message);
    }

    void destroy() {
        client.close();
        if (keeper.process) {
            ::syscall(SYS_pidfd_send_signal, keeper.process.get(), SIGKILL, nullptr, 0);
            (void)wait_process_end(keeper.process, end_timeout);
        }
        if (cgroup) {
            warn(cgroup->kill_all(end_timeout));
            warn(cgroup->remove(end_timeout));
        }
        warn(disconnect_network(context, directory));
        forget_sandbox(directory);
    }

    Result<> setup(const Spec& spec) {
        UniqueFd kdat;
        if (!criu_root.empty()) {
            TRY_ASSIGN(const std::string path, warm_kdat_path(context, criu_root));
            if (auto file = open_at(AT_FDCWD, path, O_RDONLY)) kdat = std::move(*file);
            kdat_missing = !kdat;
        }
        Json binds = Json::array();
        for (const auto& bind : spec.binds)
            binds.push_back({{"source", bind.source},
                             {"target", bind.target},
                             {"writable", bind.writable},
                             {"device", bind.device}});
        // Programs look up the name of their own host; without an entry some wait for DNS.
        const std::string own = address.empty() ? "127.0.1.1" : address;
        const Json files{{"/etc/hostname", id + "\n"},
                         {"/etc/hosts", fmt::format("127.0.0.1 localhost\n"
                                                    "::1 localhost ip6-localhost ip6-loopback\n"
                                                    "{} {}\n",
                                                    own, id)}};
        TRY(call({{"operation", "setup"},
                  {"id", id},
                  {"directory", directory},
                  {"root", spec.root},
                  {"scratch_bytes", spec.scratch_bytes},
                  {"binds", binds},
                  {"criu_root", criu_root},
                  {"files", files},
                  {"kdat", static_cast<bool>(kdat)}},
                 kdat ? std::vector<int>{kdat.get()} : std::vector<int>{}));
        return {};
    }
};

Sandbox::Sandbox(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sandbox::Sandbox(Sandbox&&) noexcept = default;
Sandbox& Sandbox::operator=(Sandbox&&) noexcept = default;
Sandbox::~Sandbox() = default;

Result<Sandbox> Sandbox::create(const Context& context, const Spec& spec,
                                const std::string& directory, const UniqueFd& lock) {
    TRY(check_spec(spec));
    if (context.stop.stop_requested()) return interrupted();
    Sandbox sandbox(std::make_unique<State>());
    State& state = *sandbox.state_;
    state.context = context;
    state.id = spec.id;
    state.directory = directory;
    state.criu_root = spec.criu_root == "/" ? "/." : spec.criu_root;  // paths are appended to it

    TRY_ASSIGN(state.keeper, launch_keeper(spec.id, directory, lock));
    state.client = Client(std::move(state.keeper.socket));
    TRY(record_sandbox(directory, spec.id, state.keeper.pid));

    TRY_ASSIGN(const UniqueFd cgroup_root, Cgroup::open_host_root());
    TRY_ASSIGN(state.cgroup, Cgroup::create(cgroup_root, spec.id));
    TRY(state.cgroup->place(state.keeper.pid));
    if (spec.network) {
        TRY_ASSIGN(Reply reply, state.call({{"operation", "netlink"}}));
        if (reply.descriptors.size() != 1) return fail("the keeper sent no netlink socket");
        TRY_ASSIGN(state.address, connect_network(context, directory, state.keeper.pid,
                                                  std::move(reply.descriptors.front())));
    }
    TRY_CONTEXT(state.setup(spec), fmt::format("sandbox {}", spec.id));
    if (state.kdat_missing) {
        // The first sandbox after a boot, while nothing but CRIU can have touched its /run.
        const auto warmed = [&]() -> Result<> {
            TRY_ASSIGN(const UniqueFd criu, sandbox.spawn_criu({}));
            TRY(probe_kernel(criu));
            return save_kdat(context, state.criu_root, sandbox);
        }();
        if (!warmed && context.log)
            context.log->debug("CRIU's kernel cache: {}", warmed.error().message);
    }
    return sandbox;
}

Result<pid_t> Sandbox::spawn(const SpawnRequest& request) {
    auto [numbers, descriptors] = descriptor_list(request.descriptors);
    TRY_ASSIGN(const Reply reply,
               state_->call({{"operation", "spawn"},
                             {"argv", request.argv},
                             {"environment", request.environment},
                             {"working_directory", request.working_directory},
                             {"restrict_capabilities", request.restrict_capabilities},
                             {"minimum_pid", request.minimum_pid},
                             {"output", request.output},
                             {"descriptors", numbers}},
                            descriptors));
    return reply.body.value("pid", 0);
}

Result<UniqueFd> Sandbox::spawn_criu(const std::map<int, int>& descriptors) {
    if (state_->criu_root.empty()) return fail("the sandbox was made without CRIU");
    TRY_ASSIGN(std::vector<std::string> argv, criu_command(state_->criu_root));
    argv.emplace_back("swrk");  // the keeper adds the number of the socket
    auto [numbers, beside] = descriptor_list(descriptors);
    TRY_ASSIGN(Reply reply,
               state_->call({{"operation", "spawn_criu"}, {"argv", argv}, {"descriptors", numbers}},
                            beside));
    if (reply.descriptors.size() != 1) return fail("the keeper sent no CRIU socket");
    return std::move(reply.descriptors.front());
}

Result<int> Sandbox::lend_descriptor(int fd) {
    TRY_ASSIGN(const Reply reply, state_->call({{"operation", "lend"}}, {fd}));
    return reply.body.value("descriptor", -1);
}

Result<> Sandbox::take_back_descriptor(int number) {
    TRY(state_->call({{"operation", "take_back"}, {"descriptor", number}}));
    return {};
}

Result<> Sandbox::write_file(const std::string& path, std::string_view data, unsigned mode) {
    if (!path.starts_with('/'))
        return fail(ErrorKind::usage, fmt::format("'{}': not an absolute path", path));
    const UniqueFd memory(::memfd_create("memplate-file", MFD_CLOEXEC));
    if (!memory) return fail_errno(errno, "memfd");
    TRY(pwrite_all(memory.get(), bytes_of(data), 0));
    TRY(state_->call({{"operation", "write_file"}, {"path", path}, {"mode", mode}},
                     {memory.get()}));
    return {};
}

Result<> Sandbox::signal(pid_t pid, int signal_number) {
    TRY(state_->call({{"operation", "signal"}, {"pid", pid}, {"signal", signal_number}}));
    return {};
}

Result<std::optional<ExitStatus>> Sandbox::wait_exit(int timeout_ms) {
    return state_->client.wait_exit(timeout_ms);
}

const std::string& Sandbox::id() const {
    return state_->id;
}
const std::string& Sandbox::address() const {
    return state_->address;
}
pid_t Sandbox::keeper() const {
    return state_->keeper.pid;
}

uint64_t Sandbox::cgroup_number() const {
    return state_->cgroup->number();
}

Result<std::vector<pid_t>> Sandbox::processes() const {
    auto pids = state_->cgroup->tracks_processes() ? state_->cgroup->processes()
                                                   : namespace_processes(state_->keeper.pid);
    if (pids) std::erase(*pids, state_->keeper.pid);
    return pids;
}

std::string Sandbox::host_path(const std::string& path) const {
    return fmt::format("/proc/{}/root{}", state_->keeper.pid, path);
}

Result<UniqueFd> Sandbox::open_inside(const std::string& path, int flags) const {
    TRY_ASSIGN(const UniqueFd root, open_at(AT_FDCWD, host_path(""), O_PATH | O_DIRECTORY));
    open_how how{};
    how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    const long fd = ::syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how);
    if (fd < 0) return fail_errno(errno, path);
    return UniqueFd(static_cast<int>(fd));
}

Result<> Sandbox::apply_limits(const Limits& limits) {
    return state_->cgroup->apply(limits);
}

Result<> Sandbox::release(pid_t root_pid) {
    TRY(state_->call({{"operation", "release"}, {"pid", root_pid}}));
    state_->released = true;
    state_->client.close();
    return {};
}

}  // namespace memplate::sandbox
