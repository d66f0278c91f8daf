// SPDX-License-Identifier: Apache-2.0
//
// The part of the CUDA driver's binary interface that memplate uses, declared here so that building
// needs no toolkit. tests/unit/gpu_driver_test.cpp compares it with cuda.h where there is one.
// Names, values and layouts are those of "CUDA Driver API", versions 11.2 to 13.0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace memplate::gpu {

using CudaResult = int;
using CudaDevice = int;
using DevicePointer = unsigned long long;
using CudaContext = struct CudaContextObject*;
using CudaModule = struct CudaModuleObject*;
using CudaFunction = struct CudaFunctionObject*;
using CudaStream = struct CudaStreamObject*;
using CudaEvent = struct CudaEventObject*;
using AllocationHandle = unsigned long long;

struct CudaUuid {
    unsigned char bytes[16];
};
struct IpcMemoryHandle {
    char bytes[64];
};
struct IpcEventHandle {
    char bytes[64];
};
struct MemoryLocation {
    int type;  ///< 1: a device
    int id;
};
struct AllocationProperties {
    int type;                    ///< 1: pinned
    int requested_handle_types;  ///< 1: POSIX file descriptor
    MemoryLocation location;
    void* windows_metadata;
    unsigned char compression;
    unsigned char gpu_direct_rdma;
    unsigned short usage;
    unsigned char reserved[4];
};
struct AccessDescription {
    MemoryLocation location;
    int flags;  ///< 3: read and write
};
struct CheckpointLockArguments {
    unsigned int timeout_ms;  ///< 0: none
    unsigned int reserved0;
    uint64_t reserved1[7];
};
/// Checkpoint, restore and unlock take 64 bytes that must be zero. Restore can move to other
/// devices with them from 13.0 on; memplate does not ask for it, so one layout serves all.
struct CheckpointArguments {
    uint64_t reserved[8];
};

// CUresult
inline constexpr CudaResult cuda_success = 0;
inline constexpr CudaResult cuda_not_initialized = 3;
inline constexpr CudaResult cuda_out_of_memory = 2;
inline constexpr CudaResult cuda_no_device = 100;
inline constexpr CudaResult cuda_not_ready = 600;
inline constexpr CudaResult cuda_not_supported = 801;
// CUdevice_attribute
inline constexpr int attribute_multiprocessors = 16;
inline constexpr int attribute_compute_mode = 20;
inline constexpr int attribute_capability_major = 75;
inline constexpr int attribute_capability_minor = 76;
inline constexpr int attribute_virtual_memory = 102;
inline constexpr int attribute_posix_handle = 103;
inline constexpr int attribute_ipc_event = 125;
inline constexpr int attribute_mps = 133;
// CUcomputemode
inline constexpr int compute_mode_exclusive_process = 3;
// CUmoduleLoadingMode
inline constexpr int loading_eager = 1;
inline constexpr int loading_lazy = 2;
// CUprocessState
inline constexpr int process_running = 0;
inline constexpr int process_locked = 1;
inline constexpr int process_checkpointed = 2;
inline constexpr int process_failed = 3;
// flags
inline constexpr unsigned stream_non_blocking = 1;
inline constexpr unsigned event_disable_timing = 2;
inline constexpr unsigned event_interprocess = 4;
inline constexpr unsigned ipc_lazy_peer_access = 1;

/// X(kind, symbol, arguments): `must` is in every driver that memplate takes (11.2 and newer),
/// `may` came later and is null in an older one. The symbols carry the suffix of the version
/// declared.
#define MEMPLATE_CUDA_CALLS(X)                                                                     \
    X(must, cuInit, (unsigned flags))                                                              \
    X(must, cuDriverGetVersion, (int* version))                                                    \
    X(must, cuGetErrorName, (CudaResult, const char** name))                                       \
    X(must, cuGetErrorString, (CudaResult, const char** text))                                     \
    X(must, cuDeviceGetCount, (int* count))                                                        \
    X(must, cuDeviceGet, (CudaDevice * device, int ordinal))                                       \
    X(must, cuDeviceGetName, (char* name, int size, CudaDevice))                                   \
    X(must, cuDeviceGetUuid, (CudaUuid * uuid, CudaDevice))                                        \
    X(may, cuDeviceGetUuid_v2, (CudaUuid * uuid, CudaDevice))                                      \
    X(must, cuDeviceGetAttribute, (int* value, int attribute, CudaDevice))                         \
    X(must, cuDeviceTotalMem_v2, (size_t* bytes, CudaDevice))                                      \
    X(must, cuDevicePrimaryCtxRetain, (CudaContext * context, CudaDevice))                         \
    X(must, cuDevicePrimaryCtxRelease_v2, (CudaDevice))                                            \
    X(must, cuCtxSetCurrent, (CudaContext))                                                        \
    X(must, cuCtxSynchronize, ())                                                                  \
    X(may, cuModuleGetLoadingMode, (int* mode))                                                    \
    X(must, cuModuleLoadData, (CudaModule * module, const void* image))                            \
    X(must, cuModuleUnload, (CudaModule))                                                          \
    X(must, cuModuleGetFunction, (CudaFunction * function, CudaModule, const char* name))          \
    X(must, cuLaunchKernel,                                                                        \
      (CudaFunction, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,          \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, CudaStream, void** parameters,   \
       void** extra))                                                                              \
    X(must, cuMemGetInfo_v2, (size_t* free, size_t* total))                                        \
    X(must, cuMemAlloc_v2, (DevicePointer * pointer, size_t bytes))                                \
    X(must, cuMemFree_v2, (DevicePointer))                                                         \
    X(must, cuMemAllocHost_v2, (void** pointer, size_t bytes))                                     \
    X(must, cuMemFreeHost, (void* pointer))                                                        \
    X(must, cuMemHostRegister_v2, (void* pointer, size_t bytes, unsigned flags))                   \
    X(must, cuMemHostUnregister, (void* pointer))                                                  \
    X(must, cuMemcpyHtoD_v2, (DevicePointer to, const void* from, size_t bytes))                   \
    X(must, cuMemcpyDtoH_v2, (void* to, DevicePointer from, size_t bytes))                         \
    X(must, cuMemcpyDtoD_v2, (DevicePointer to, DevicePointer from, size_t bytes))                 \
    X(must, cuStreamCreate, (CudaStream * stream, unsigned flags))                                 \
    X(must, cuStreamSynchronize, (CudaStream))                                                     \
    X(must, cuStreamWaitEvent, (CudaStream, CudaEvent, unsigned flags))                            \
    X(must, cuStreamDestroy_v2, (CudaStream))                                                      \
    X(must, cuEventCreate, (CudaEvent * event, unsigned flags))                                    \
    X(must, cuEventRecord, (CudaEvent, CudaStream))                                                \
    X(must, cuEventSynchronize, (CudaEvent))                                                       \
    X(must, cuEventDestroy_v2, (CudaEvent))                                                        \
    X(must, cuIpcGetMemHandle, (IpcMemoryHandle * handle, DevicePointer))                          \
    X(must, cuIpcOpenMemHandle_v2, (DevicePointer * pointer, IpcMemoryHandle, unsigned flags))     \
    X(must, cuIpcCloseMemHandle, (DevicePointer))                                                  \
    X(must, cuIpcGetEventHandle, (IpcEventHandle * handle, CudaEvent))                             \
    X(must, cuIpcOpenEventHandle, (CudaEvent * event, IpcEventHandle))                             \
    X(must, cuMemGetAllocationGranularity,                                                         \
      (size_t* bytes, const AllocationProperties*, int option))                                    \
    X(must, cuMemCreate,                                                                           \
      (AllocationHandle * handle, size_t bytes, const AllocationProperties*,                       \
       unsigned long long flags))                                                                  \
    X(must, cuMemRelease, (AllocationHandle))                                                      \
    X(must, cuMemAddressReserve,                                                                   \
      (DevicePointer * pointer, size_t bytes, size_t alignment, DevicePointer wanted,              \
       unsigned long long flags))                                                                  \
    X(must, cuMemAddressFree, (DevicePointer, size_t bytes))                                       \
    X(must, cuMemMap,                                                                              \
      (DevicePointer, size_t bytes, size_t offset, AllocationHandle, unsigned long long flags))    \
    X(must, cuMemUnmap, (DevicePointer, size_t bytes))                                             \
    X(must, cuMemSetAccess, (DevicePointer, size_t bytes, const AccessDescription*, size_t count)) \
    X(must, cuMemExportToShareableHandle,                                                          \
      (void* shareable, AllocationHandle, int handle_type, unsigned long long flags))              \
    X(must, cuMemImportFromShareableHandle,                                                        \
      (AllocationHandle * handle, void* shareable, int handle_type))                               \
    X(may, cuCheckpointProcessGetState, (int pid, int* state))                                     \
    X(may, cuCheckpointProcessLock, (int pid, CheckpointLockArguments*))                           \
    X(may, cuCheckpointProcessCheckpoint, (int pid, CheckpointArguments*))                         \
    X(may, cuCheckpointProcessRestore, (int pid, CheckpointArguments*))                            \
    X(may, cuCheckpointProcessUnlock, (int pid, CheckpointArguments*))

/// One pointer for each call, named as its symbol.
struct CudaCalls {
#define MEMPLATE_CUDA_MEMBER(kind, symbol, arguments) CudaResult(*symbol) arguments = nullptr;
    MEMPLATE_CUDA_CALLS(MEMPLATE_CUDA_MEMBER)
#undef MEMPLATE_CUDA_MEMBER
};

}  // namespace memplate::gpu
