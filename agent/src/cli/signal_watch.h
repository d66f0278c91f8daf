// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <stop_token>
#include <thread>

#include "util/fd.h"

namespace memplate::cli {

/// Turns SIGINT and SIGTERM into a stop request while it lives; a second signal ends the process at
/// once with exit code 130. The signals are blocked in the creating thread and in those it starts
/// later, so no system call of theirs is interrupted. Children inherit the mask: what they execute
/// must be started with an empty one.
class SignalWatch {
  public:
    static Result<SignalWatch> start(std::stop_source stop);
    SignalWatch(SignalWatch&& other) noexcept = default;
    SignalWatch& operator=(SignalWatch&&) = delete;
    ~SignalWatch();

  private:
    SignalWatch() = default;
    sigset_t previous_{};
    UniqueFd finish_;  ///< eventfd: written when the thread shall end
    std::thread thread_;
};

}  // namespace memplate::cli
