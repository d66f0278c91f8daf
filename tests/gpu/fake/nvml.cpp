// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "fake/memory.h"
#include "fake/settings.h"
#include "gpu/nvml_api.h"

using namespace memplate::gpu;
using fake_gpu::Device;
using fake_gpu::settings;

namespace {

int index_of(NvmlDevice device) {
    return static_cast<int>(reinterpret_cast<uintptr_t>(device)) - 1;
}

const Device& describe(NvmlDevice device) {
    return settings().devices.at(static_cast<size_t>(index_of(device)));
}

NvmlResult copy_text(const std::string& text, char* to, unsigned size) {
    if (text.size() >= size) return nvml_insufficient_size;
    std::memcpy(to, text.c_str(), text.size() + 1);
    return nvml_success;
}

/// Either the clients of MPS or the others.
NvmlResult list_processes(NvmlDevice device, bool mps, unsigned* count, NvmlProcess* processes) {
    const auto clients = fake_gpu::mps_clients(index_of(device));
    auto usage = fake_gpu::usage(index_of(device));
    std::erase_if(usage, [&](const auto& one) { return clients.contains(one.first) != mps; });
    const bool fits = usage.size() <= *count;
    *count = static_cast<unsigned>(usage.size());
    if (!fits) return nvml_insufficient_size;
    for (const auto& [pid, bytes] : usage)
        *processes++ = {static_cast<unsigned>(pid), bytes, ~0U, ~0U};
    return nvml_success;
}

}  // namespace

FAKE_EXPORT const char* nvmlErrorString(NvmlResult result) {
    return result == nvml_driver_not_loaded ? "Driver Not Loaded"
           : result == nvml_not_supported   ? "Not Supported"
                                            : "the fake NVML was told to fail";
}

FAKE_EXPORT NvmlResult nvmlInit_v2() {
    FAKE_ENTER();
    return settings().present ? nvml_success : nvml_driver_not_loaded;
}

FAKE_EXPORT NvmlResult nvmlShutdown() {
    FAKE_ENTER();
    return nvml_success;
}

FAKE_EXPORT NvmlResult nvmlSystemGetDriverVersion(char* version, unsigned size) {
    FAKE_ENTER();
    return copy_text(settings().driver, version, size);
}

FAKE_EXPORT NvmlResult nvmlDeviceGetCount_v2(unsigned* count) {
    FAKE_ENTER();
    *count = static_cast<unsigned>(settings().devices.size());
    return nvml_success;
}

FAKE_EXPORT NvmlResult nvmlDeviceGetHandleByIndex_v2(unsigned index, NvmlDevice* device) {
    FAKE_ENTER();
    if (index >= settings().devices.size()) return 2;
    *device = reinterpret_cast<NvmlDevice>(static_cast<uintptr_t>(index) + 1);
    return nvml_success;
}

FAKE_EXPORT NvmlResult nvmlDeviceGetHandleByUUID(const char* uuid, NvmlDevice* device) {
    FAKE_ENTER();
    for (size_t i = 0; i < settings().devices.size(); ++i) {
        if (settings().devices[i].uuid != uuid) continue;
        *device = reinterpret_cast<NvmlDevice>(i + 1);
        return nvml_success;
    }
    return 6;
}

FAKE_EXPORT NvmlResult nvmlDeviceGetUUID(NvmlDevice device, char* uuid, unsigned size) {
    FAKE_ENTER();
    return copy_text(describe(device).uuid, uuid, size);
}

FAKE_EXPORT NvmlResult nvmlDeviceGetName(NvmlDevice device, char* name, unsigned size) {
    FAKE_ENTER();
    return copy_text(describe(device).name, name, size);
}

FAKE_EXPORT NvmlResult nvmlDeviceGetMemoryInfo(NvmlDevice device, NvmlMemory* memory) {
    FAKE_ENTER();
    *memory = {.total = describe(device).memory_bytes, .free = 0, .used = 0};
    for (const auto& [pid, bytes] : fake_gpu::usage(index_of(device))) memory->used += bytes;
    memory->free = memory->total - memory->used;
    return nvml_success;
}

FAKE_EXPORT NvmlResult nvmlDeviceGetPersistenceMode(NvmlDevice device, int* enabled) {
    FAKE_ENTER();
    *enabled = describe(device).persistence ? 1 : 0;
    return nvml_success;
}

FAKE_EXPORT NvmlResult nvmlDeviceGetComputeMode(NvmlDevice device, int* mode) {
    FAKE_ENTER();
    *mode = describe(device).compute_mode;
    return nvml_success;
}

FAKE_EXPORT NvmlResult nvmlDeviceGetMigMode(NvmlDevice device, unsigned* current,
                                            unsigned* pending) {
    FAKE_ENTER();
    *current = *pending = 0;
    // The mode is that of a whole GPU.
    return describe(device).mig ? nvml_not_supported : nvml_success;
}

FAKE_EXPORT NvmlResult nvmlDeviceGetComputeRunningProcesses_v3(NvmlDevice device, unsigned* count,
                                                               NvmlProcess* processes) {
    FAKE_ENTER();
    return list_processes(device, false, count, processes);
}

FAKE_EXPORT NvmlResult nvmlDeviceGetMPSComputeRunningProcesses_v3(NvmlDevice device,
                                                                  unsigned* count,
                                                                  NvmlProcess* processes) {
    FAKE_ENTER();
    return list_processes(device, true, count, processes);
}
