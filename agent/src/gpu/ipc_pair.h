// SPDX-License-Identifier: Apache-2.0
//
// The two processes of a transfer, for ipc.cpp.
#pragma once

#include "gpu/ipc.h"

namespace memplate::gpu {

class IpcPair {
  public:
    struct Answers {
        Json sender;
        Json receiver;
    };
    static Result<IpcPair> start(const Context& context, const IpcOptions& options);
    /// What both said when they were ready.
    [[nodiscard]] const Answers& begun() const { return begun_; }

    [[nodiscard]] Result<Answers> prepare(uint64_t bytes, const std::vector<Transport>& list);
    [[nodiscard]] Result<Answers> transfer(const Transport& transport, uint32_t seed);
    [[nodiscard]] Result<Answers> release();
    /// Both end by themselves.
    [[nodiscard]] Result<> finish();

  private:
    IpcPair(Worker sender, Worker receiver)
        : sender_(std::move(sender)), receiver_(std::move(receiver)) {}
    [[nodiscard]] Result<> connect();
    [[nodiscard]] Result<Answers> ask(const Json& message);
    [[nodiscard]] Result<Answers> receive();

    Worker sender_;
    Worker receiver_;
    UniqueFd plain_;   ///< shared host memory
    UniqueFd pinned_;  ///< shared host memory that will be registered
    Answers begun_;
};

}  // namespace memplate::gpu
