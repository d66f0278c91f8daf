// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace memplate {

/// What a long operation is doing, on stderr (or `fd`). On a terminal: one line redrawn in place,
/// with a bar when the total is known; first drawn after 300 ms, so that short work stays silent.
/// It is drawn from step() and advance() only (advance(0) just redraws): a thread of its own would
/// forbid setns(2) to the agent. Elsewhere: one plain line per step(). Thread safe. Nothing is
/// printed when `quiet`.
class Progress {
  public:
    explicit Progress(bool quiet = false, int fd = STDERR_FILENO);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Begins a named step; `total` units of work (0: unknown).
    void step(std::string_view name, uint64_t total = 0);
    void advance(uint64_t done = 1);
    /// Clears the line; the next step draws again. Call before printing anything else.
    void clear();

  private:
    void draw();
    std::mutex mutex_;
    int fd_;
    bool quiet_;
    bool terminal_;
    bool drawn_ = false;
    std::string name_;
    uint64_t total_ = 0;
    uint64_t done_ = 0;
    std::chrono::steady_clock::time_point started_;
    std::chrono::steady_clock::time_point last_drawn_;
};

}  // namespace memplate
