// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "gpu/nvml.h"
#include "gpu/worker_tasks.h"
#include "util/clock.h"

namespace memplate::gpu {
namespace {

bool lists(const Nvml& nvml, NvmlDevice device, bool mps, pid_t pid, Json& description) {
    const auto processes = nvml.processes(device, mps);
    if (!processes) return false;
    for (const NvmlProcess& process : *processes) {
        if (static_cast<pid_t>(process.pid) != pid) continue;
        if (process.used_bytes != nvml_no_value) description["own"] = process.used_bytes;
        return true;
    }
    return false;
}

void add_from_nvml(const Nvml& nvml, const std::string& uuid, pid_t pid, Json& description) {
    const auto device = nvml.device(uuid);
    if (!device) return;
    const auto memory = nvml.memory(*device);
    if (!memory) return;
    description["known"] = true;
    description["total"] = memory->total;
    description["free"] = memory->free;
    lists(nvml, *device, false, pid, description);
    description["mps"] = lists(nvml, *device, true, pid, description);
}

Result<Json> inspect(const Driver& driver, const Nvml* nvml, pid_t pid) {
    Json answer{{"devices", Json::array()}};
    int state = 0;
    driver.enter("cuCheckpointProcessGetState");
    const CudaResult result = driver.calls.cuCheckpointProcessGetState(pid, &state);
    driver.leave();
    // Of a process without CUDA the driver knows no state; which error it says that with differs.
    if (result == cuda_success) answer["state"] = state;
    if (result == cuda_not_supported) TRY(driver.check(result, "cuCheckpointProcessGetState"));
    int count = 0;
    TRY_CUDA(driver, cuDeviceGetCount, (&count));
    for (int ordinal = 0; ordinal < count; ++ordinal) {
        TRY_ASSIGN(const CudaDevice device, driver.device(ordinal));
        TRY_ASSIGN(const std::string uuid, driver.uuid(device));
        std::array<char, 256> name{};
        TRY_CUDA(driver, cuDeviceGetName, (name.data(), name.size(), device));
        Json description{{"uuid", uuid}, {"name", name.data()}, {"mig", uuid.starts_with("MIG-")}};
        if (nvml != nullptr) add_from_nvml(*nvml, uuid, pid, description);
        answer["devices"].push_back(std::move(description));
    }
    return answer;
}

Result<> perform(const Driver& driver, const std::string& what, pid_t pid, unsigned timeout_ms) {
    if (what == "lock") {
        CheckpointLockArguments arguments{};
        arguments.timeout_ms = timeout_ms;
        TRY_CUDA(driver, cuCheckpointProcessLock, (pid, &arguments));
        return {};
    }
    CheckpointArguments arguments{};
    if (what == "checkpoint") {
        TRY_CUDA(driver, cuCheckpointProcessCheckpoint, (pid, &arguments));
    } else if (what == "restore") {
        TRY_CUDA(driver, cuCheckpointProcessRestore, (pid, &arguments));
    } else {
        TRY_CUDA(driver, cuCheckpointProcessUnlock, (pid, &arguments));
    }
    return {};
}

Result<Json> serve(const Driver& driver, const Nvml* nvml, const Json& request) {
    const pid_t pid = request.value("pid", 0);
    const std::string what = request.value("do", "");
    if (what == "inspect") return inspect(driver, nvml, pid);
    const int64_t begun = monotonic_ns();
    TRY(perform(driver, what, pid, request.value("timeout_ms", 0U)));
    return Json{{"ms", static_cast<double>(monotonic_ns() - begun) / 1e6}};
}

}  // namespace

Result<> check_checkpoint_support(const Driver& driver) {
    constexpr int first_with_checkpoints = 12080;
    TRY_ASSIGN(const int version, driver.version());
    const CudaCalls& calls = driver.calls;
    if (version >= first_with_checkpoints && calls.cuCheckpointProcessGetState != nullptr &&
        calls.cuCheckpointProcessLock != nullptr &&
        calls.cuCheckpointProcessCheckpoint != nullptr &&
        calls.cuCheckpointProcessRestore != nullptr && calls.cuCheckpointProcessUnlock != nullptr)
        return {};
    return fail(ErrorKind::unsupported,
                fmt::format("the driver's CUDA {} has no process checkpoints; they came with 12.8: "
                            "install driver 570 or newer",
                            cuda_version_text(version)));
}

Result<> checkpoint_task(Channel& channel, const Json&) {
    channel.end_with_peer();
    TRY_ASSIGN(Driver driver, Driver::load());
    driver.note_calls_in(channel.note());
    TRY(check_checkpoint_support(driver));
    // Restoring needs the device to be initialised by somebody.
    TRY(driver.initialize());
    TRY_ASSIGN(const int version, driver.version());
    const auto nvml = Nvml::load(CallNote(channel.note()));
    const Nvml* told_by = nvml ? &*nvml : nullptr;
    Json ready{{"library", driver.path()}, {"cuda", version}};
    if (nvml) {
        if (const auto text = nvml->driver_version()) ready["driver"] = *text;
    }
    TRY(channel.send(ready));
    while (true) {
        const auto request = channel.receive();
        if (!request) return {};  // nobody wants anything any more
        const auto answer = serve(driver, told_by, *request);
        TRY(answer ? channel.send(*answer) : channel.send(answer.error()));
    }
}

}  // namespace memplate::gpu
