// SPDX-License-Identifier: Apache-2.0
//
// The agent's end of the conversation with a keeper. Not for several threads at once.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "sandbox/sandbox.h"
#include "util/fd.h"
#include "util/json.h"

namespace memplate::sandbox {

struct Reply {
    Json body;
    std::vector<UniqueFd> descriptors;
};

class Client {
  public:
    Client() = default;
    explicit Client(UniqueFd socket) : socket_(std::move(socket)) {}

    /// Sends a request and waits for its reply; a refusal is an error with the keeper's words.
    Result<Reply> call(const Json& request, const std::vector<int>& descriptors = {});
    /// The next exit reported, if there is one within `timeout_ms`.
    Result<std::optional<ExitStatus>> wait_exit(int timeout_ms);
    void close() { socket_.reset(); }

  private:
    /// One message; nullopt after `timeout_ms`.
    Result<std::optional<Reply>> receive(int timeout_ms);

    UniqueFd socket_;
    std::deque<ExitStatus> exits_;
};

}  // namespace memplate::sandbox
