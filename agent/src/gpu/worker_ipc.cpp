// SPDX-License-Identifier: Apache-2.0
//
// The task "ipc". Request: {"end": "sender" | "receiver", "device"}; then come the descriptors that
// connect the two ends, and after the answer of begin() messages of type "prepare", "transfer" and
// "release", each with one answer, until "end".
#include "gpu/worker_ipc.h"

#include <signal.h>

#include "gpu/worker_tasks.h"

namespace memplate::gpu {
namespace {

Result<Json> answer(TransferEnd& end, const Json& message) {
    const std::string type = message.value("type", "");
    Times times;
    Json result = Json::object();
    if (type == "prepare") {
        std::vector<Transport> list;
        for (const Json& name : message["transports"])
            if (const auto known = find_transport(name.get<std::string>())) list.push_back(*known);
        TRY(end.prepare(message.value("bytes", uint64_t{0}), list, times));
    } else if (type == "transfer") {
        const auto transport = find_transport(message.value("transport", ""));
        if (!transport) return fail("unknown transport");
        TRY_ASSIGN(result, end.transfer(*transport, message.value("seed", 0U), times));
    } else if (type == "release") {
        TRY(end.release(times));
    } else {
        return fail(fmt::format("unknown message {}", type));
    }
    result.update(times.json());
    return result;
}

}  // namespace

Result<> ipc_task(Channel& channel, const Json& request) {
    // A reader that died is an error of write(2).
    ::signal(SIGPIPE, SIG_IGN);
    std::vector<UniqueFd> descriptors;
    TRY(channel.receive(descriptors));
    TRY_ASSIGN(Driver driver, Driver::load());
    driver.note_calls_in(channel.note());
    TRY(driver.initialize());
    TRY_ASSIGN(const CudaDevice device, driver.device(request.value("device", 0)));
    TRY_ASSIGN(const PrimaryContext context, PrimaryContext::retain(driver, device));
    std::unique_ptr<TransferEnd> end;
    if (request.value("end", "") == "sender")
        end = std::make_unique<Sender>(driver, device);
    else
        end = std::make_unique<Receiver>(driver, device);
    TRY_ASSIGN(const Json begun, end->begin(std::move(descriptors)));
    TRY(channel.send(begun));
    while (true) {
        TRY_ASSIGN(const Json message, channel.receive());
        if (message.value("type", "") == "end") return {};
        TRY_ASSIGN(const Json result, answer(*end, message));
        TRY(channel.send(result));
    }
}

}  // namespace memplate::gpu
