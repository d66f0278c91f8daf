// SPDX-License-Identifier: Apache-2.0
//
// Handles for other processes: the name of a block. Opening maps it, as the driver does.
#include <sys/mman.h>

#include <cstdio>
#include <cstring>

#include "fake/cuda_state.h"
#include "fake/memory.h"
#include "fake/settings.h"

using namespace memplate::gpu;
using fake_gpu::Allocation;
using fake_gpu::state;

FAKE_EXPORT CudaResult cuIpcGetMemHandle(IpcMemoryHandle* handle, DevicePointer pointer) {
    FAKE_ENTER();
    const std::lock_guard lock(state().mutex);
    const auto found = state().allocations.find(pointer);
    if (found == state().allocations.end() || found->second.block.empty()) return 1;
    std::memset(handle, 0, sizeof *handle);
    if (found->second.block.size() >= sizeof handle->bytes) return 1;
    std::memcpy(handle->bytes, found->second.block.data(), found->second.block.size());
    return cuda_success;
}

FAKE_EXPORT CudaResult cuIpcOpenMemHandle_v2(DevicePointer* pointer, IpcMemoryHandle handle,
                                             unsigned) {
    FAKE_ENTER();
    const std::string name(handle.bytes, ::strnlen(handle.bytes, sizeof handle.bytes));
    int device = 0;
    int owner = 0;
    if (std::sscanf(name.c_str(), "%d.%d.", &device, &owner) != 2) return 400;
    if (owner == fake_gpu::owner_number())
        return 201;  // the driver refuses it in the process that exported it
    Allocation allocation;
    allocation.device = device;
    allocation.address = fake_gpu::map_block(name, &allocation.bytes);
    if (allocation.address == nullptr) return 400;
    *pointer = reinterpret_cast<DevicePointer>(allocation.address);
    const std::lock_guard lock(state().mutex);
    state().allocations[*pointer] = allocation;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuIpcCloseMemHandle(DevicePointer pointer) {
    FAKE_ENTER();
    const std::lock_guard lock(state().mutex);
    const auto found = state().allocations.find(pointer);
    if (found == state().allocations.end() || !found->second.block.empty()) return 1;
    ::munmap(found->second.address, found->second.bytes);
    state().allocations.erase(found);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuIpcGetEventHandle(IpcEventHandle* handle, CudaEvent event) {
    FAKE_ENTER();
    std::memset(handle, 0, sizeof *handle);
    const auto number = reinterpret_cast<uintptr_t>(event);
    std::memcpy(handle->bytes, &number, sizeof number);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuIpcOpenEventHandle(CudaEvent* event, IpcEventHandle handle) {
    FAKE_ENTER();
    uintptr_t number = 0;
    std::memcpy(&number, handle.bytes, sizeof number);
    *event = reinterpret_cast<CudaEvent>(number);
    return cuda_success;
}
