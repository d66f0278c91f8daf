// SPDX-License-Identifier: Apache-2.0
#include "sandbox/keeper_server.h"

#include <linux/netlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <ctime>

#include "sandbox/keeper_mounts.h"
#include "sandbox/keeper_process.h"
#include "sandbox/message.h"

namespace memplate::keeper {
namespace {

using sandbox::control_descriptor;

Outcome<> bring_up_loopback() {
    const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) return fault(errno, "socket");
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (::ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) return fault(errno, "loopback up");
    return {};
}

/// Number in the child → the received descriptor beside it.
std::map<int, int> descriptor_map(const Json& request, const std::vector<Descriptor>& received) {
    std::map<int, int> result;
    const auto numbers = request.at("descriptors").get<std::vector<int>>();
    for (size_t i = 0; i < numbers.size(); ++i) result[numbers[i]] = received.at(i).get();
    return result;
}

}  // namespace

int Server::run() {
    sigset_t mask;
    ::sigemptyset(&mask);
    ::sigaddset(&mask, SIGCHLD);
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
    child_signals_ = Descriptor(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!child_signals_) return 1;

    for (;;) {
        if (finish_now_) finish();
        std::array<pollfd, 3> waits{{
            {child_signals_.get(), POLLIN, 0},
            {root_pid_ == 0 ? control_descriptor : -1,
             static_cast<short>(POLLIN | (events_.empty() ? 0 : POLLOUT)), 0},
            {root_.get(), POLLIN, 0},
        }};
        if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return 1;
        if (waits[0].revents != 0) {
            signalfd_siginfo info{};
            while (::read(child_signals_.get(), &info, sizeof info) > 0) {
            }
            collect_exits();
        }
        if (waits[2].revents != 0) {
            collect_exits();
            finish();
        }
        if (root_pid_ != 0) continue;
        if ((waits[1].revents & POLLOUT) != 0) send_events();
        if ((waits[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0) take_message();
    }
}

void Server::take_message() {
    std::string body;
    std::vector<int> numbers;
    // The agent is gone before it released the sandbox: everything in it ends with this process.
    if (sandbox::receive_message(control_descriptor, body, numbers) != 0) ::_exit(0);
    Descriptors received;
    for (const int number : numbers) received.emplace_back(number);

    std::vector<int> reply;
    Outcome<Json> outcome;
    try {
        outcome = handle(Json::parse(body), received, reply);
    } catch (const std::exception& error) {
        outcome = std::unexpected(Fault{EPROTO, std::string("request: ") + error.what()});
    }
    Json answer = outcome ? std::move(*outcome) : Json::object();
    answer["ok"] = outcome.has_value();
    if (!outcome) {
        answer["error"] = outcome.error().message;
        answer["code"] = outcome.error().code;
    }
    // Names inside may be in any encoding.
    const std::string text = answer.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (sandbox::send_message(control_descriptor, text, reply) != 0) ::_exit(1);
    to_close_.clear();
    // The socket stays open as a number, so that none of the lent descriptors can take its place.
    if (root_pid_ != 0) ::shutdown(control_descriptor, SHUT_RDWR);
}

Outcome<Json> Server::handle(const Json& request, Descriptors& received, std::vector<int>& reply) {
    const auto operation = request.at("operation").get<std::string>();
    if (operation == "setup") return setup(request, received);
    if (operation == "netlink") return netlink(reply);
    if (operation == "spawn") return spawn(request, received);
    if (operation == "spawn_criu") return spawn_criu(request, received, reply);
    if (operation == "release") return release(request);
    if (operation == "lend") {
        const int number = received.at(0).get();
        lent_[number] = std::move(received.at(0));
        return Json{{"descriptor", number}};
    }
    if (operation == "take_back") {
        if (lent_.erase(request.at("descriptor").get<int>()) == 0)
            return fault(EBADF, "take back a descriptor");
        return Json::object();
    }
    if (operation == "write_file") {
        auto data = contents(received.at(0).get());
        if (!data) return std::unexpected(std::move(data.error()));
        KEEPER_TRY(replace_file(request.at("path").get<std::string>(), *data,
                                request.at("mode").get<mode_t>()));
        return Json::object();
    }
    if (operation == "signal") {
        const auto pid = request.at("pid").get<pid_t>();
        if (pid <= 1) return fault(EINVAL, "signal");  // never itself, never everybody
        if (::kill(pid, request.at("signal").get<int>()) != 0)
            return fault(errno, "signal process " + std::to_string(pid));
        return Json::object();
    }
    return fault(ENOSYS, operation);
}

Outcome<Json> Server::setup(const Json& request, const Descriptors& received) {
    MountPlan plan;
    plan.directory = request.at("directory").get<std::string>();
    plan.root = request.at("root").get<std::string>();
    plan.criu_root = request.at("criu_root").get<std::string>();
    plan.scratch_bytes = request.at("scratch_bytes").get<uint64_t>();
    for (const auto& bind : request.at("binds"))
        plan.binds.push_back({bind.at("source").get<std::string>(),
                              bind.at("target").get<std::string>(), bind.at("writable").get<bool>(),
                              bind.at("device").get<bool>()});
    auto last_pid = build_root(plan);
    if (!last_pid) return std::unexpected(std::move(last_pid.error()));
    last_pid_ = std::move(*last_pid);

    const auto id = request.at("id").get<std::string>();
    if (::sethostname(id.data(), id.size()) != 0) return fault(errno, "set the host name");
    if (::unshare(CLONE_NEWCGROUP) != 0 && errno != EINVAL)
        return fault(errno, "new cgroup namespace");
    KEEPER_TRY(bring_up_loopback());
    for (const auto& [path, text] : request.at("files").items())
        KEEPER_TRY(replace_file(path, text.get<std::string>(), 0644));
    if (request.at("kdat").get<bool>()) {
        auto kdat = contents(received.at(0).get());
        if (!kdat) return std::unexpected(std::move(kdat.error()));
        KEEPER_TRY(replace_file(std::string(sandbox::kdat_inside), *kdat, 0600));
    }
    return Json::object();
}

Outcome<Json> Server::netlink(std::vector<int>& reply) {
    Descriptor socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!socket) return fault(errno, "netlink socket");
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        return fault(errno, "bind a netlink socket");
    reply.push_back(socket.get());
    to_close_.push_back(std::move(socket));
    return Json::object();
}

Outcome<Json> Server::spawn(const Json& request, const Descriptors& received) {
    ChildSpec spec;
    spec.argv = request.at("argv").get<std::vector<std::string>>();
    spec.environment = request.at("environment").get<std::vector<std::string>>();
    spec.working_directory = request.at("working_directory").get<std::string>();
    spec.restrict_capabilities = request.at("restrict_capabilities").get<bool>();
    spec.output = request.at("output").get<std::string>();
    spec.descriptors = descriptor_map(request, received);
    KEEPER_TRY(advance_pid(last_pid_.get(), request.at("minimum_pid").get<pid_t>()));
    auto pid = start_child(spec);
    if (!pid) return std::unexpected(std::move(pid.error()));
    return Json{{"pid", *pid}};
}

Outcome<Json> Server::spawn_criu(const Json& request, const Descriptors& received,
                                 std::vector<int>& reply) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return fault(errno, "socket pair");
    Descriptor ours(ends[0]);
    const Descriptor theirs(ends[1]);

    ChildSpec spec;
    spec.argv = request.at("argv").get<std::vector<std::string>>();
    spec.raise_descriptor_limit = true;
    spec.log_output = true;
    spec.descriptors = descriptor_map(request, received);
    const int number = spec.descriptors.empty() ? 3 : spec.descriptors.rbegin()->first + 1;
    spec.descriptors[std::max(number, 3)] = theirs.get();
    spec.argv.push_back(std::to_string(std::max(number, 3)));
    spec.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
    auto pid = start_child(spec);
    if (!pid) return std::unexpected(std::move(pid.error()));
    reply.push_back(ours.get());
    to_close_.push_back(std::move(ours));
    return Json{{"pid", *pid}};
}

Outcome<Json> Server::release(const Json& request) {
    const auto pid = request.at("pid").get<pid_t>();
    if (pid <= 1) return fault(EINVAL, "release");
    collect_exits();
    root_ = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!root_) {
        const int error = errno;
        if (!ended_.contains(pid)) return fault(error, "process " + std::to_string(pid));
        finish_now_ = true;
    }
    // Neither CRIU nor anything lent for a restore is needed by the instance.
    ::umount2((std::string(sandbox::criu_mount) + "/usr").c_str(), MNT_DETACH);
    lent_.clear();
    root_pid_ = pid;
    return Json::object();
}

void Server::collect_exits() {
    constexpr size_t remembered = 4096;
    while (const auto ended = reap()) {
        ended_[ended->first] = ended->second;
        if (ended_.size() > remembered) ended_.erase(ended_.begin());
        if (root_pid_ == 0)
            events_.push_back(
                Json{{"event", "exit"}, {"pid", ended->first}, {"status", ended->second}}.dump());
    }
    if (root_pid_ == 0) send_events();
}

void Server::send_events() {
    while (!events_.empty()) {
        if (sandbox::send_message(control_descriptor, events_.front(), {}, MSG_DONTWAIT) != 0)
            return;
        events_.pop_front();
    }
}

void Server::finish() {
    // A process that is not a direct child was reaped by its parent, who alone knows its status.
    int code = -1;
    int signal_number = 0;
    if (const auto known = ended_.find(root_pid_); known != ended_.end()) {
        if (WIFEXITED(known->second)) code = WEXITSTATUS(known->second);
        if (WIFSIGNALED(known->second)) signal_number = WTERMSIG(known->second);
    }
    const Json status{{"pid", root_pid_},
                      {"status", code},
                      {"signal", signal_number},
                      {"time", static_cast<int64_t>(::time(nullptr))}};
    const std::string text = status.dump() + "\n";
    constexpr const char* temporary = "status.json.new";
    const Descriptor file(::openat(sandbox::directory_descriptor, temporary,
                                   O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    const bool written =
        file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (!written || ::renameat(sandbox::directory_descriptor, temporary,
                               sandbox::directory_descriptor, "status.json") != 0) {
        std::fprintf(stderr, "memplate-keeper: status.json: %s\n", std::strerror(errno));
        ::_exit(1);
    }
    ::_exit(0);
}

}  // namespace memplate::keeper
