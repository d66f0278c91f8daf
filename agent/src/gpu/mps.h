// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <stop_token>
#include <string>
#include <vector>

#include "util/context.h"
#include "util/fd.h"
#include "util/fs.h"

namespace memplate::gpu {

/// An MPS control daemon for one device, with pipe and log folders of its own: programs on the
/// machine that do not ask for it never meet it. Compute modes stay as they are.
class MpsDaemon {
  public:
    /// ErrorKind::unsupported if nvidia-cuda-mps-control is not in PATH.
    static Result<std::string> find();
    /// Starts it and returns once it answers. ErrorKind::unsupported if there is no
    /// nvidia-cuda-mps-control or it does not start; the message has its reason.
    static Result<MpsDaemon> start(const Context& context, const std::string& device_uuid,
                                   std::chrono::milliseconds patience);
    MpsDaemon(MpsDaemon&& other) noexcept;
    MpsDaemon& operator=(MpsDaemon&&) = delete;
    ~MpsDaemon();  ///< tells it to quit, with its servers; kills it if it does not

    /// What makes a process its client: "NAME=value" each. A percentage of 0 sets none.
    [[nodiscard]] std::vector<std::string> client_environment(int thread_percentage) const;
    /// What keeps a process from being a client of any daemon.
    [[nodiscard]] static std::vector<std::string> no_client_environment();

  private:
    MpsDaemon() = default;
    [[nodiscard]] Result<std::string> command(const std::string& words,
                                              std::chrono::milliseconds patience,
                                              const std::stop_token& stop = {}) const;
    [[nodiscard]] Result<> wait_until_it_answers(const Context& context);
    [[nodiscard]] std::string last_words() const;
    void quit();

    std::string program_;
    std::string device_uuid_;
    TemporaryDirectory folder_;
    std::chrono::milliseconds patience_{};
    pid_t pid_ = -1;
};

}  // namespace memplate::gpu
