// SPDX-License-Identifier: Apache-2.0
//
// Workers: processes that use the GPU for memplate. memplate itself never loads the driver, so that
// a call which hangs or crashes takes a worker with it, and so that cold starts are cold.
//
// A worker is `memplate-gpu-worker TASK`, started with a SEQPACKET socket as descriptor 3 (JSON
// messages, descriptors beside them; the first message is the request) and a shared page as
// descriptor 4, where it notes the call of the driver that it is in.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "gpu/exec_watch.h"
#include "util/context.h"
#include "util/fd.h"
#include "util/json.h"

namespace memplate::gpu {

class Worker {
  public:
    struct Start {
        std::string task;
        Json request = Json::object();
        std::vector<std::string> environment;  ///< "NAME=value" added to ours
        /// Longest silence before the worker is taken for hung and killed.
        std::chrono::milliseconds patience = std::chrono::seconds(60);
        std::string patience_option = "--timeout";  ///< what changes it, told in the error
        bool quiet = false;                         ///< its standard error is dropped
        bool watch_exec = false;                    ///< for exec_done_ns()
        /// It goes on when the thread that starts it ends; the task calls Channel::end_with_peer().
        bool outlives_thread = false;
    };
    /// Starts the process and sends the request.
    static Result<Worker> start(const Context& context, Start start);
    Worker(Worker&& other) noexcept;
    Worker& operator=(Worker&&) = delete;
    ~Worker();  ///< kills it, if it still runs; what cannot be killed is not waited for

    /// The next message. A message of type "error" is returned as that Error; a worker that ends,
    /// crashes or is silent for too long (code ETIMEDOUT) is an error that names the call it was
    /// in.
    [[nodiscard]] Result<Json> receive();
    /// The same with the descriptors that came beside it.
    [[nodiscard]] Result<Json> receive(std::vector<UniqueFd>& descriptors);
    [[nodiscard]] Result<> send(const Json& message, const std::vector<int>& descriptors = {});
    /// Waits until it has ended by itself; an exit status other than 0 is an error. No longer than
    /// its patience: drivers hang at the end of a process, too.
    [[nodiscard]] Result<> finish();

    [[nodiscard]] pid_t pid() const { return pid_; }
    /// The call of the driver that it is in; empty: none.
    [[nodiscard]] std::string call() const;
    /// CLOCK_MONOTONIC just before the process was made, and in it just before its exec.
    [[nodiscard]] int64_t cloned_ns() const { return cloned_ns_; }
    [[nodiscard]] int64_t exec_ns() const;
    /// When the kernel had replaced the program (nothing where perf events are not permitted), and
    /// when main() began. Known once the first message is there.
    [[nodiscard]] std::optional<int64_t> exec_done_ns() const;
    [[nodiscard]] int64_t main_ns() const;
    /// CLOCK_MONOTONIC when finish() saw its end.
    [[nodiscard]] int64_t ended_ns() const { return ended_ns_; }

  private:
    Worker() = default;
    struct Page;  ///< what descriptor 4 shares
    struct Unmap {
        void operator()(Page* page) const;
    };
    [[nodiscard]] std::string where() const;
    [[nodiscard]] Result<> wait_for_message();
    [[nodiscard]] Error ended();
    /// The status it ended with, for waitpid's macros.
    [[nodiscard]] Result<int> wait_for_end();

    std::string task_;
    std::chrono::milliseconds patience_{};
    std::string patience_option_;
    std::stop_token stop_;
    pid_t pid_ = -1;
    UniqueFd pidfd_;
    UniqueFd socket_;
    std::unique_ptr<Page, Unmap> page_;
    std::unique_ptr<ExecWatch> exec_watch_;
    int64_t cloned_ns_ = 0;
    int64_t ended_ns_ = 0;

    friend class Channel;
};

/// The worker's end.
class Channel {
  public:
    /// Takes descriptors 3 and 4; `main_ns` is when main() began.
    static Result<Channel> open(int64_t main_ns);
    [[nodiscard]] Result<Json> receive();
    [[nodiscard]] Result<Json> receive(std::vector<UniqueFd>& descriptors);
    [[nodiscard]] Result<> send(const Json& message, const std::vector<int>& descriptors = {});
    [[nodiscard]] Result<> send(const Error& error);
    /// From now on the process ends at once when memplate is gone, also in the middle of a call.
    void end_with_peer() const;
    /// Where the name of the current call is noted: for Driver::note_calls_in and Nvml::load.
    [[nodiscard]] char* note() const;

  private:
    UniqueFd socket_;
    std::unique_ptr<Worker::Page, Worker::Unmap> page_;
};

/// Our environment with `added`, "NAME=value" each, which wins.
[[nodiscard]] std::vector<std::string> environment_with(const std::vector<std::string>& added);

}  // namespace memplate::gpu
