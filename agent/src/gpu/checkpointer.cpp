// SPDX-License-Identifier: Apache-2.0
#include "gpu/checkpointer.h"

#include <array>

namespace memplate::gpu {

std::string_view name_of(ProcessState state) {
    constexpr std::array<std::string_view, 4> names = {"running", "locked", "checkpointed",
                                                       "failed"};
    return names.at(static_cast<size_t>(state));
}

Result<Checkpointer> Checkpointer::start(const Context& context, std::chrono::milliseconds patience,
                                         std::string patience_option) {
    Worker::Start start;
    start.task = "checkpoint";
    start.patience = patience;
    start.patience_option = std::move(patience_option);
    start.outlives_thread = true;  // instances are prepared by threads
    TRY_ASSIGN(Worker worker, Worker::start(context, std::move(start)));
    TRY_ASSIGN(const Json ready, worker.receive());
    Checkpointer checkpointer(std::move(worker));
    checkpointer.library_ = ready.value("library", "");
    checkpointer.driver_version_ = ready.value("driver", "");
    checkpointer.cuda_version_ = ready.value("cuda", 0);
    return checkpointer;
}

Result<Json> Checkpointer::ask(const Json& request) {
    TRY(worker_.send(request));
    return worker_.receive();
}

Result<double> Checkpointer::timed(const char* what, pid_t pid, unsigned timeout_ms) {
    TRY_ASSIGN(const Json answer, ask({{"do", what}, {"pid", pid}, {"timeout_ms", timeout_ms}}));
    return answer.value("ms", 0.0);
}

Result<ProcessUse> Checkpointer::inspect(pid_t pid) {
    TRY_ASSIGN(const Json answer, ask({{"do", "inspect"}, {"pid", pid}}));
    ProcessUse use;
    if (const int state = answer.value("state", -1); state >= 0) {
        // Newer drivers may know states in between.
        use.state = state <= static_cast<int>(ProcessState::failed)
                        ? static_cast<ProcessState>(state)
                        : ProcessState::failed;
    }
    for (const Json& device : answer.value("devices", Json::array())) {
        DeviceUse one;
        one.uuid = device.value("uuid", "");
        one.name = device.value("name", "");
        one.known = device.value("known", false);
        one.total = device.value("total", uint64_t{0});
        one.free = device.value("free", uint64_t{0});
        one.mig = device.value("mig", false);
        one.mps = device.value("mps", false);
        if (device.contains("own")) one.own = device["own"].get<uint64_t>();
        use.devices.push_back(std::move(one));
    }
    return use;
}

Result<double> Checkpointer::lock(pid_t pid, std::chrono::milliseconds timeout) {
    return timed("lock", pid, static_cast<unsigned>(timeout.count()));
}
Result<double> Checkpointer::checkpoint(pid_t pid) {
    return timed("checkpoint", pid);
}
Result<double> Checkpointer::restore(pid_t pid) {
    return timed("restore", pid);
}
Result<double> Checkpointer::unlock(pid_t pid) {
    return timed("unlock", pid);
}

}  // namespace memplate::gpu
