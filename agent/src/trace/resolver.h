// SPDX-License-Identifier: Apache-2.0
//
// Looks up what the engines' state files tell of containers, in a thread of its own: no file is
// read while events wait. Engines write their files about when they make the cgroup, so what is
// not there yet is looked for again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "trace/registry.h"

namespace memplate::trace {

class Resolver {
  public:
    struct Options {
        CgroupHierarchy hierarchy{};
        std::string instances{};  ///< where memplate keeps its own
        bool commands = false;    ///< also what the first process of a container executes
        std::string root{};       ///< "" (another directory in tests)
    };
    explicit Resolver(Options options);
    ~Resolver();

    void ask(const std::shared_ptr<Member>& member);
    /// Fills in what was found since the last call.
    void answer();

  private:
    using Clock = std::chrono::steady_clock;
    struct Question {
        std::weak_ptr<Member> member;
        Container container;
        std::string command;
        bool occupied = false;
        size_t attempts = 0;
        Clock::time_point due;
    };
    void work(const std::stop_token& stop);
    /// True when there is nothing more to find out.
    bool look(Question& question) const;

    Options options_;
    std::mutex mutex_;
    std::condition_variable_any wake_;
    std::vector<Question> questions_;
    std::vector<std::pair<Question, bool>> answers_;  ///< and whether it is the last
    std::jthread thread_;                             ///< last: ends before the rest goes
};

}  // namespace memplate::trace
