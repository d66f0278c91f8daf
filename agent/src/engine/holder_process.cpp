// SPDX-License-Identifier: Apache-2.0
//
// What a holder does. One thread, no settings, no log: it answers and it ends.
#include "engine/holder_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <vector>

#include "engine/holder.h"
#include "util/lock.h"
#include "util/message.h"

namespace memplate::engine {
namespace {

using std::chrono::steady_clock;

class Holder {
  public:
    Holder(Held held, Json processes, std::vector<ModuleTemplate> templates)
        : held_(std::move(held)),
          processes_(std::move(processes)),
          templates_(std::move(templates)),
          socket_inode_(socket_inode()) {}

    void serve() {
        const auto patience = std::chrono::seconds(std::max(1U, held_.seconds));
        auto deadline = steady_clock::now() + patience;
        while (!ended_) {
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                deadline - steady_clock::now());
            pollfd ready{holder_listener, POLLIN, 0};
            const int count =
                ::poll(&ready, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
            bool renewed = false;
            if (count > 0)
                renewed =
                    answer(UniqueFd(::accept4(holder_listener, nullptr, nullptr, SOCK_CLOEXEC)));
            else if (count == 0 && leave())
                return;
            if (count == 0 || renewed) deadline = steady_clock::now() + patience;
        }
    }

  private:
    /// Whether the templates were taken; who only looks whether we live prolongs nothing.
    bool answer(const UniqueFd& client) {
        if (!client || !is_ours(client.get())) return false;
        const timeval patience{.tv_sec = 2, .tv_usec = 0};
        ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        std::string body;
        std::vector<int> received;
        const int error = receive_message(client.get(), body, received);
        for (const int fd : received) ::close(fd);
        if (error != 0) return false;
        const Json request = Json::parse(body, nullptr, false);
        if (!request.is_object()) return false;
        const std::string operation = request.value("operation", "");
        if (operation == "take") {
            std::vector<int> descriptors;
            for (const auto& held : templates_) descriptors.push_back(held.fd());
            send_message(client.get(), Json{{"processes", processes_}}.dump(), descriptors);
            return true;
        }
        if (operation == "end") {
            // Who asked has the lock, removes our files, and waits for the socket to close.
            templates_.clear();
            ::close_range(holder_listener, holder_listener, 0);
            ::close_range(holder_first_template, ~0U, 0);
            ended_ = true;
        }
        return false;
    }

    static bool is_ours(int client) {
        ucred peer{};
        socklen_t size = sizeof peer;
        return ::getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
               (peer.uid == 0 || peer.uid == ::geteuid());
    }

    /// Ends if nobody uses the pages, and nobody is just about to ask for them.
    bool leave() {
        const bool used = std::ranges::any_of(templates_, [](const ModuleTemplate& held) {
            const auto stat = held.stat();
            return stat && (stat->live_references > 0 || stat->lazy_regions > 0);
        });
        if (used) return false;
        const auto lock = open_at(holder_directory, holder_lock, O_RDWR);
        if (!lock) return true;  // the directory was removed
        const auto locked =
            try_lock_range(lock->get(), LockMode::exclusive, holder_lock_offset(held_.key), 1);
        if (!locked || !*locked) return false;
        // One that did not answer in time may have been replaced.
        if (socket_inode() != socket_inode_) return true;
        for (const char* suffix : {".socket", ".json"})
            ::unlinkat(holder_directory, (held_.key + suffix).c_str(), 0);
        return true;
    }

    /// 0: there is none.
    [[nodiscard]] ino_t socket_inode() const {
        struct stat st{};
        const std::string name = held_.key + ".socket";
        return ::fstatat(holder_directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino
                                                                                        : 0;
    }

    Held held_;
    Json processes_;
    std::vector<ModuleTemplate> templates_;
    ino_t socket_inode_;
    bool ended_ = false;
};

}  // namespace

uint64_t holder_lock_offset(const std::string& key) {
    constexpr size_t digits = 15;  // below the largest file offset
    uint64_t offset = 0;
    std::from_chars(key.data(), key.data() + std::min(digits, key.size()), offset, 16);
    return offset;
}

int run_holder(const std::string& argument) {
    const Json json = Json::parse(argument, nullptr, false);
    auto held = Held::from_json(json);
    if (!held || !json.contains("processes") || !json["processes"].is_array()) return 2;
    const pid_t child = ::fork();
    if (child != 0) return child < 0 ? 1 : 0;
    ::setsid();
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGHUP, SIG_IGN);
    ::signal(SIGINT, SIG_IGN);
    if (::chdir("/") != 0) return 1;
    std::vector<ModuleTemplate> templates;
    for (size_t i = 0; i < json["processes"].size(); ++i)
        templates.emplace_back(UniqueFd(holder_first_template + static_cast<int>(i)));
    Holder(std::move(*held), json["processes"], std::move(templates)).serve();
    return 0;
}

}  // namespace memplate::engine
