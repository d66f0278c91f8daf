// SPDX-License-Identifier: Apache-2.0
#include "gpu/nvml.h"

#include <array>

namespace memplate::gpu {

Result<Nvml> Nvml::load(CallNote note) {
    auto library = Library::open({"libnvidia-ml.so.1"});
    if (!library)
        return fail(ErrorKind::unsupported,
                    fmt::format("no NVML on this machine ({}); it comes with NVIDIA's driver",
                                library.error().message));
    Nvml nvml(std::move(*library), note);
    NvmlCalls calls;
    const char* missing = nullptr;
    enum Need { must, may };
    if (!nvml.library_.find("nvmlErrorString", calls.nvmlErrorString)) missing = "nvmlErrorString";
#define MEMPLATE_FIND(kind, symbol, arguments) \
    if (!nvml.library_.find(#symbol, calls.symbol) && (kind) == must) missing = #symbol;
    MEMPLATE_NVML_CALLS(MEMPLATE_FIND)
#undef MEMPLATE_FIND
    if (missing != nullptr)
        return fail(ErrorKind::unsupported, fmt::format("{} has no {}: update NVIDIA's driver",
                                                        nvml.library_.path(), missing));
    note.enter("nvmlInit_v2");
    const NvmlResult result = calls.nvmlInit_v2();
    note.leave();
    if (result != nvml_success)
        return fail(ErrorKind::unsupported,
                    fmt::format("nvmlInit: {} ({})", calls.nvmlErrorString(result), result));
    nvml.calls = calls;  // from here on there is something to shut down
    return nvml;
}

Nvml::~Nvml() {
    if (calls.nvmlShutdown != nullptr) (void)calls.nvmlShutdown();
}

Result<> Nvml::check(NvmlResult result, const char* call) const {
    note_.leave();
    if (result == nvml_success) return {};
    const ErrorKind kind =
        result == nvml_not_supported ? ErrorKind::unsupported : ErrorKind::failed;
    return fail(kind, fmt::format("{}: {} ({})", call, calls.nvmlErrorString(result), result));
}

Result<std::string> Nvml::driver_version() const {
    std::array<char, 96> version{};
    TRY_NVML(*this, nvmlSystemGetDriverVersion, (version.data(), version.size()));
    return std::string(version.data());
}

Result<NvmlDevice> Nvml::device(const std::string& uuid) const {
    NvmlDevice device = nullptr;
    TRY_NVML(*this, nvmlDeviceGetHandleByUUID, (uuid.c_str(), &device));
    return device;
}

Result<NvmlMemory> Nvml::memory(NvmlDevice device) const {
    NvmlMemory memory{};
    TRY_NVML(*this, nvmlDeviceGetMemoryInfo, (device, &memory));
    return memory;
}

Result<bool> Nvml::persistence(NvmlDevice device) const {
    int enabled = 0;
    TRY_NVML(*this, nvmlDeviceGetPersistenceMode, (device, &enabled));
    return enabled != 0;
}

Result<bool> Nvml::mig(NvmlDevice device) const {
    if (calls.nvmlDeviceGetMigMode == nullptr)
        return fail(ErrorKind::unsupported, "this NVML knows no MIG");
    unsigned current = 0;
    unsigned pending = 0;
    TRY_NVML(*this, nvmlDeviceGetMigMode, (device, &current, &pending));
    return current != 0;
}

Result<std::vector<NvmlProcess>> Nvml::processes(NvmlDevice device, bool mps) const {
    const auto call = mps ? calls.nvmlDeviceGetMPSComputeRunningProcesses_v3
                          : calls.nvmlDeviceGetComputeRunningProcesses_v3;
    const char* name = mps ? "nvmlDeviceGetMPSComputeRunningProcesses_v3"
                           : "nvmlDeviceGetComputeRunningProcesses_v3";
    if (call == nullptr)
        return fail(ErrorKind::unsupported,
                    fmt::format("this NVML has no {}: update NVIDIA's driver", name));
    std::vector<NvmlProcess> processes(64);
    while (true) {
        auto count = static_cast<unsigned>(processes.size());
        enter(name);
        const NvmlResult result = call(device, &count, processes.data());
        if (result == nvml_insufficient_size) {
            processes.resize(count + processes.size());  // more may start meanwhile
            continue;
        }
        TRY(check(result, name));
        processes.resize(count);
        return processes;
    }
}

}  // namespace memplate::gpu
