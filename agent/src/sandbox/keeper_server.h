// SPDX-License-Identifier: Apache-2.0
//
// Carries out the agent's requests. The wire is in message.h.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "sandbox/keeper_fault.h"
#include "util/json.h"

namespace memplate::keeper {

class Server {
  public:
    /// Runs until the sandbox's life is over; returns the keeper's exit code.
    int run();

  private:
    using Descriptors = std::vector<Descriptor>;

    void take_message();
    Outcome<Json> handle(const Json& request, Descriptors& received, std::vector<int>& reply);
    Outcome<Json> setup(const Json& request, const Descriptors& received);
    Outcome<Json> netlink(std::vector<int>& reply);
    Outcome<Json> spawn(const Json& request, const Descriptors& received);
    Outcome<Json> spawn_criu(const Json& request, const Descriptors& received,
                             std::vector<int>& reply);
    Outcome<Json> release(const Json& request);

    void collect_exits();
    void send_events();
    /// The root process has ended: records how, as far as it is known, and ends the keeper.
    [[noreturn]] void finish();

    Descriptor last_pid_;
    Descriptor child_signals_;
    Descriptor root_;          ///< pidfd, after release
    pid_t root_pid_ = 0;       ///< 0 before release
    bool finish_now_ = false;  ///< the root had ended before its release
    std::map<int, Descriptor> lent_;
    std::map<pid_t, int> ended_;  ///< wait statuses, for a release that comes after the end
    std::deque<std::string> events_;
    std::vector<Descriptor> to_close_;  ///< descriptors of the reply, closed once it is sent
};

}  // namespace memplate::keeper
