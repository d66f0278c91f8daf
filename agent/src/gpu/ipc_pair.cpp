// SPDX-License-Identifier: Apache-2.0
#include "gpu/ipc_pair.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

namespace memplate::gpu {
namespace {

constexpr int pipe_bytes = 1 << 20;  // as much as anybody may have

struct Ends {
    UniqueFd sender;
    UniqueFd receiver;
};

Result<Ends> socket_pair(int type) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return fail_errno(errno, "socketpair");
    return Ends{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<Ends> pipe_pair() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
    Ends result{UniqueFd(ends[1]), UniqueFd(ends[0])};
    (void)::fcntl(ends[1], F_SETPIPE_SZ, pipe_bytes);  // stays at 64 KiB if refused
    return result;
}

Result<Ends> tcp_pair() {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!listener) return fail_errno(errno, "TCP socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof address;
    if (::bind(listener.get(), name, size) != 0 || ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), name, &size) != 0)
        return fail_errno(errno, "listen on 127.0.0.1");
    Ends ends{UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), {}};
    if (!ends.sender || ::connect(ends.sender.get(), name, size) != 0)
        return fail_errno(errno, "connect to 127.0.0.1");
    ends.receiver = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!ends.receiver) return fail_errno(errno, "accept");
    const int yes = 1;
    for (const UniqueFd* end : {&ends.sender, &ends.receiver})
        if (::setsockopt(end->get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
            return fail_errno(errno, "TCP_NODELAY");
    return ends;
}

Result<UniqueFd> host_memory(const char* name) {
    UniqueFd fd(::memfd_create(name, MFD_CLOEXEC));
    if (!fd) return fail_errno(errno, "memfd_create");
    return fd;
}

Error named(std::string_view end, Error error) {
    return error.kind == ErrorKind::interrupted ? error : std::move(error).context(end);
}

/// Of two that failed: one that only lost the other, or waits for it, is not the cause.
bool is_consequence(const Error& error, const std::string& call) {
    return error.code == ECONNRESET || (error.code == ETIMEDOUT && call.empty());
}

}  // namespace

Result<IpcPair> IpcPair::start(const Context& context, const IpcOptions& options) {
    const auto worker = [&](const char* end) {
        return Worker::start(context, {.task = "ipc",
                                       .request = {{"end", end}, {"device", options.device}},
                                       .environment = {},
                                       .patience = options.patience});
    };
    TRY_ASSIGN(Worker sender, worker("sender"));
    TRY_ASSIGN(Worker receiver, worker("receiver"));
    IpcPair pair(std::move(sender), std::move(receiver));
    TRY(pair.connect());
    TRY_ASSIGN(pair.begun_, pair.receive());
    return pair;
}

Result<> IpcPair::connect() {
    TRY_ASSIGN(const Ends control, socket_pair(SOCK_SEQPACKET));
    TRY_ASSIGN(const Ends pipe, pipe_pair());
    TRY_ASSIGN(const Ends local, socket_pair(SOCK_STREAM));
    TRY_ASSIGN(const Ends tcp, tcp_pair());
    TRY_ASSIGN(plain_, host_memory("memplate-shm"));
    TRY_ASSIGN(pinned_, host_memory("memplate-shm-pinned"));
    const auto give = [&](Worker& worker, UniqueFd Ends::* end) {
        return worker.send({{"type", "connect"}},
                           {(control.*end).get(), (pipe.*end).get(), (local.*end).get(),
                            (tcp.*end).get(), plain_.get(), pinned_.get()});
    };
    TRY(give(sender_, &Ends::sender));
    return give(receiver_, &Ends::receiver);
}

Result<IpcPair::Answers> IpcPair::prepare(uint64_t bytes, const std::vector<Transport>& list) {
    for (const UniqueFd* file : {&plain_, &pinned_})
        if (::ftruncate(file->get(), static_cast<off_t>(bytes)) != 0)
            return fail_errno(errno, "shared host memory");
    Json names = Json::array();
    for (const Transport& transport : list) names.push_back(transport.name);
    return ask({{"type", "prepare"}, {"bytes", bytes}, {"transports", names}});
}

Result<IpcPair::Answers> IpcPair::transfer(const Transport& transport, uint32_t seed) {
    const Json message = {{"type", "transfer"}, {"transport", transport.name}, {"seed", seed}};
    if (transport.kind != Transport::Kind::streams) return ask(message);
    TRY(sender_.send(message));
    auto answer = sender_.receive();
    if (!answer) return std::unexpected(named("sender", std::move(answer.error())));
    return Answers{std::move(*answer), Json::object()};
}

Result<IpcPair::Answers> IpcPair::release() {
    // Memory of another process has to be closed before that process frees it.
    const Json message = {{"type", "release"}};
    TRY(receiver_.send(message));
    auto receiver = receiver_.receive();
    if (!receiver) return std::unexpected(named("receiver", std::move(receiver.error())));
    TRY(sender_.send(message));
    auto sender = sender_.receive();
    if (!sender) return std::unexpected(named("sender", std::move(sender.error())));
    return Answers{std::move(*sender), std::move(*receiver)};
}

Result<> IpcPair::finish() {
    TRY(receiver_.send({{"type", "end"}}));
    TRY(receiver_.finish());
    TRY(sender_.send({{"type", "end"}}));
    return sender_.finish();
}

Result<IpcPair::Answers> IpcPair::ask(const Json& message) {
    TRY(receiver_.send(message));
    TRY(sender_.send(message));
    return receive();
}

Result<IpcPair::Answers> IpcPair::receive() {
    auto sender = sender_.receive();
    if (!sender && !is_consequence(sender.error(), sender_.call()))
        return std::unexpected(named("sender", std::move(sender.error())));
    if (!sender && sender.error().code == ETIMEDOUT && !receiver_.call().empty()) {
        sender.error().message += fmt::format("; the receiver is in {}", receiver_.call());
        return std::unexpected(named("sender", std::move(sender.error())));
    }
    auto receiver = receiver_.receive();
    if (!receiver) return std::unexpected(named("receiver", std::move(receiver.error())));
    if (!sender) return std::unexpected(named("sender", std::move(sender.error())));
    return Answers{std::move(*sender), std::move(*receiver)};
}

}  // namespace memplate::gpu
