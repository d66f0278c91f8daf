// SPDX-License-Identifier: Apache-2.0
//
// Memory and copies. A device pointer is the address at which this process mapped the block.
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "fake/cuda_state.h"
#include "fake/memory.h"
#include "fake/settings.h"

using namespace memplate::gpu;
using fake_gpu::Allocation;
using fake_gpu::state;

namespace fake_gpu {

CudaResult allocate(int device, uint64_t bytes, const char* kind, Allocation& out) {
    if (device < 0) return 201;
    if (bytes == 0) return 1;
    out = {.block = create_block(device, bytes, kind), .device = device};
    if (out.block.empty()) return cuda_out_of_memory;
    out.address = map_block(out.block, &out.bytes);
    return out.address == nullptr ? cuda_out_of_memory : cuda_success;
}

}  // namespace fake_gpu

namespace {

void* host(DevicePointer pointer) {
    return reinterpret_cast<void*>(pointer);
}

}  // namespace

FAKE_EXPORT CudaResult cuMemGetInfo_v2(size_t* free, size_t* total) {
    FAKE_ENTER();
    const int device = fake_gpu::current_device();
    if (device < 0) return 201;
    *total = fake_gpu::settings().devices[device].memory_bytes;
    *free = *total;
    for (const auto& [pid, bytes] : fake_gpu::usage(device)) *free -= bytes;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemAlloc_v2(DevicePointer* pointer, size_t bytes) {
    FAKE_ENTER();
    Allocation allocation;
    const CudaResult result =
        fake_gpu::allocate(fake_gpu::current_device(), bytes, "memory", allocation);
    if (result != cuda_success) return result;
    *pointer = reinterpret_cast<DevicePointer>(allocation.address);
    const std::lock_guard lock(state().mutex);
    state().allocations[*pointer] = std::move(allocation);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemFree_v2(DevicePointer pointer) {
    FAKE_ENTER();
    const std::lock_guard lock(state().mutex);
    const auto found = state().allocations.find(pointer);
    if (found == state().allocations.end()) return 1;
    ::munmap(found->second.address, found->second.bytes);
    fake_gpu::remove_block(found->second.block);
    state().allocations.erase(found);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemAllocHost_v2(void** pointer, size_t bytes) {
    FAKE_ENTER();
    *pointer = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return *pointer == nullptr ? cuda_out_of_memory : cuda_success;
}

FAKE_EXPORT CudaResult cuMemFreeHost(void* pointer) {
    FAKE_ENTER();
    std::free(pointer);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemHostRegister_v2(void*, size_t, unsigned) {
    FAKE_ENTER();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemHostUnregister(void*) {
    FAKE_ENTER();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemcpyHtoD_v2(DevicePointer to, const void* from, size_t bytes) {
    FAKE_ENTER();
    std::memcpy(host(to), from, bytes);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemcpyDtoH_v2(void* to, DevicePointer from, size_t bytes) {
    FAKE_ENTER();
    std::memcpy(to, host(from), bytes);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemcpyDtoD_v2(DevicePointer to, DevicePointer from, size_t bytes) {
    FAKE_ENTER();
    std::memmove(host(to), host(from), bytes);
    return cuda_success;
}
