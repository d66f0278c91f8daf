// SPDX-License-Identifier: Apache-2.0
//
// A command that is started, in a cgroup if wanted, and held until its recording has begun.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "util/memory_cgroup.h"

namespace memplate {

class Command {
  public:
    struct Options {
        int out = -1;                               ///< its standard output; -1: ours
        int error = -1;                             ///< its standard error, likewise
        std::vector<std::string> environment = {};  ///< "NAME=value", added to ours
    };
    /// A process that waits in `cgroup` (where one is given) for release().
    static Result<Command> prepare(const std::vector<std::string>& words,
                                   const MemoryCgroup* cgroup, const Options& options);
    Command(Command&& other) noexcept;
    Command& operator=(Command&&) = delete;
    ~Command();  ///< kills it, if it still runs

    /// Lets it execute the command and returns when it has. A command that cannot be executed is
    /// an error.
    [[nodiscard]] Result<> release();
    /// Stamped by the process itself, just before the call.
    [[nodiscard]] int64_t exec_ns() const { return exec_ns_; }
    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] int pidfd() const { return pidfd_.get(); }  ///< readable once it has ended
    void kill() const;
    /// Waits for the end: the wait status.
    [[nodiscard]] Result<int> wait();

  private:
    Command() = default;
    std::string name_;
    pid_t pid_ = -1;
    UniqueFd pidfd_;
    UniqueFd go_;       ///< written to let it go
    UniqueFd listens_;  ///< its other end: writing to a process that was killed is no SIGPIPE
    UniqueFd failed_;   ///< yields the errno of a failed exec, or ends with a successful one
    UniqueFd stamp_;    ///< a page of memory where the process leaves the time of its exec
    int64_t exec_ns_ = 0;
};

/// "exited with status 3", "was killed by signal 9"; empty for success.
[[nodiscard]] std::string describe_status(int status);

[[nodiscard]] Result<UniqueFd> memory_file(const char* name);

/// Runs a command to its end with its output collected: the output, or an error with the last line
/// of what it complained about.
[[nodiscard]] Result<std::string> run_and_read(const std::vector<std::string>& words);

}  // namespace memplate
