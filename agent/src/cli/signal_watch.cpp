// SPDX-License-Identifier: Apache-2.0
#include "cli/signal_watch.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <system_error>

namespace memplate::cli {
namespace {

void watch(const UniqueFd& signals, int finish, std::stop_source stop) {
    std::array<pollfd, 2> events = {pollfd{signals.get(), POLLIN, 0}, pollfd{finish, POLLIN, 0}};
    for (;;) {
        if (::poll(events.data(), events.size(), -1) < 0) continue;
        if (events[1].revents != 0) return;
        signalfd_siginfo received{};
        if (::read(signals.get(), &received, sizeof received) != sizeof received) continue;
        // request_stop() is false if a stop was requested before: the user insists.
        if (!stop.request_stop()) ::_exit(static_cast<int>(ErrorKind::interrupted));
    }
}

}  // namespace

Result<SignalWatch> SignalWatch::start(std::stop_source stop) {
    sigset_t mask;
    ::sigemptyset(&mask);
    ::sigaddset(&mask, SIGINT);
    ::sigaddset(&mask, SIGTERM);
    UniqueFd signals(::signalfd(-1, &mask, SFD_CLOEXEC));
    if (!signals) return fail_errno(errno, "signalfd");
    SignalWatch result;
    result.finish_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
    if (!result.finish_) return fail_errno(errno, "eventfd");
    if (const int err = ::pthread_sigmask(SIG_BLOCK, &mask, &result.previous_); err != 0)
        return fail_errno(err, "pthread_sigmask");
    try {
        result.thread_ = std::thread([signals = std::move(signals), finish = result.finish_.get(),
                                      stop = std::move(stop)] { watch(signals, finish, stop); });
    } catch (const std::system_error& error) {
        ::pthread_sigmask(SIG_SETMASK, &result.previous_, nullptr);
        return fail_errno(error.code().value(), "start of the signal thread");
    }
    return result;
}

SignalWatch::~SignalWatch() {
    if (!thread_.joinable()) return;
    (void)::eventfd_write(finish_.get(), 1);
    thread_.join();
    ::pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

}  // namespace memplate::cli
