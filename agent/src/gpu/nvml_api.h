// SPDX-License-Identifier: Apache-2.0
//
// The part of NVML's binary interface that memplate uses ("NVML API Reference", r535 to r580).
#pragma once

#include <cstdint>

namespace memplate::gpu {

using NvmlResult = int;
using NvmlDevice = struct NvmlDeviceObject*;

inline constexpr NvmlResult nvml_success = 0;
inline constexpr NvmlResult nvml_not_supported = 3;
inline constexpr NvmlResult nvml_insufficient_size = 7;
inline constexpr NvmlResult nvml_driver_not_loaded = 9;
/// nvmlProcessInfo_t.usedGpuMemory where the driver does not know it.
inline constexpr unsigned long long nvml_no_value = ~0ULL;

struct NvmlMemory {
    unsigned long long total;
    unsigned long long free;
    unsigned long long used;
};
struct NvmlProcess {
    unsigned int pid;
    unsigned long long used_bytes;
    unsigned int gpu_instance;
    unsigned int compute_instance;
};

#define MEMPLATE_NVML_CALLS(X)                                                       \
    X(must, nvmlInit_v2, ())                                                         \
    X(must, nvmlShutdown, ())                                                        \
    X(must, nvmlSystemGetDriverVersion, (char* version, unsigned size))              \
    X(must, nvmlDeviceGetCount_v2, (unsigned* count))                                \
    X(must, nvmlDeviceGetHandleByIndex_v2, (unsigned index, NvmlDevice* device))     \
    X(must, nvmlDeviceGetHandleByUUID, (const char* uuid, NvmlDevice* device))       \
    X(must, nvmlDeviceGetUUID, (NvmlDevice, char* uuid, unsigned size))              \
    X(must, nvmlDeviceGetName, (NvmlDevice, char* name, unsigned size))              \
    X(must, nvmlDeviceGetMemoryInfo, (NvmlDevice, NvmlMemory * memory))              \
    X(must, nvmlDeviceGetPersistenceMode, (NvmlDevice, int* enabled))                \
    X(must, nvmlDeviceGetComputeMode, (NvmlDevice, int* mode))                       \
    X(may, nvmlDeviceGetMigMode, (NvmlDevice, unsigned* current, unsigned* pending)) \
    X(may, nvmlDeviceGetComputeRunningProcesses_v3,                                  \
      (NvmlDevice, unsigned* count, NvmlProcess* processes))                         \
    X(may, nvmlDeviceGetMPSComputeRunningProcesses_v3,                               \
      (NvmlDevice, unsigned* count, NvmlProcess* processes))

struct NvmlCalls {
    const char* (*nvmlErrorString)(NvmlResult) = nullptr;
#define MEMPLATE_NVML_MEMBER(kind, symbol, arguments) NvmlResult(*symbol) arguments = nullptr;
    MEMPLATE_NVML_CALLS(MEMPLATE_NVML_MEMBER)
#undef MEMPLATE_NVML_MEMBER
};

}  // namespace memplate::gpu
