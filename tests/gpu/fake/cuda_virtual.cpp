// SPDX-License-Identifier: Apache-2.0
//
// Virtual memory management: physical memory is a block, its export the block's file.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fake/cuda_state.h"
#include "fake/memory.h"
#include "fake/settings.h"

using namespace memplate::gpu;
using fake_gpu::state;

namespace {

constexpr size_t granularity = 2 << 20;

/// An allocation's handle is the descriptor of its file, plus one.
int descriptor(AllocationHandle handle) {
    return static_cast<int>(handle) - 1;
}

}  // namespace

FAKE_EXPORT CudaResult cuMemGetAllocationGranularity(size_t* bytes, const AllocationProperties*,
                                                     int) {
    FAKE_ENTER();
    *bytes = granularity;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemCreate(AllocationHandle* handle, size_t bytes,
                                   const AllocationProperties* properties, unsigned long long) {
    FAKE_ENTER();
    if (bytes == 0 || bytes % granularity != 0) return 1;
    const std::string block = fake_gpu::create_block(properties->location.id, bytes, "physical");
    if (block.empty()) return cuda_out_of_memory;
    const std::string path = fake_gpu::settings().state + "/" + block;
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return 999;
    *handle = static_cast<AllocationHandle>(fd) + 1;
    const std::lock_guard lock(state().mutex);
    state().physical[*handle] = block;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemRelease(AllocationHandle handle) {
    FAKE_ENTER();
    const std::lock_guard lock(state().mutex);
    if (::close(descriptor(handle)) != 0) return 400;
    const auto found = state().physical.find(handle);
    if (found == state().physical.end()) return cuda_success;  // imported
    fake_gpu::remove_block(found->second);
    state().physical.erase(found);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemAddressReserve(DevicePointer* pointer, size_t bytes, size_t,
                                           DevicePointer, unsigned long long) {
    FAKE_ENTER();
    void* address =
        ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) return cuda_out_of_memory;
    *pointer = reinterpret_cast<DevicePointer>(address);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemAddressFree(DevicePointer pointer, size_t bytes) {
    FAKE_ENTER();
    return ::munmap(reinterpret_cast<void*>(pointer), bytes) == 0 ? cuda_success : 1;
}

FAKE_EXPORT CudaResult cuMemMap(DevicePointer pointer, size_t bytes, size_t offset,
                                AllocationHandle handle, unsigned long long) {
    FAKE_ENTER();
    void* address = ::mmap(reinterpret_cast<void*>(pointer), bytes, PROT_NONE,
                           MAP_SHARED | MAP_FIXED, descriptor(handle), static_cast<off_t>(offset));
    return address == MAP_FAILED ? 1 : cuda_success;
}

FAKE_EXPORT CudaResult cuMemUnmap(DevicePointer pointer, size_t bytes) {
    FAKE_ENTER();
    void* address = ::mmap(reinterpret_cast<void*>(pointer), bytes, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return address == MAP_FAILED ? 1 : cuda_success;
}

FAKE_EXPORT CudaResult cuMemSetAccess(DevicePointer pointer, size_t bytes, const AccessDescription*,
                                      size_t) {
    FAKE_ENTER();
    const int done = ::mprotect(reinterpret_cast<void*>(pointer), bytes, PROT_READ | PROT_WRITE);
    return done == 0 ? cuda_success : 1;
}

FAKE_EXPORT CudaResult cuMemExportToShareableHandle(void* shareable, AllocationHandle handle,
                                                    int handle_type, unsigned long long) {
    FAKE_ENTER();
    if (handle_type != 1) return cuda_not_supported;
    const int fd = ::fcntl(descriptor(handle), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return 400;
    *static_cast<int*>(shareable) = fd;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuMemImportFromShareableHandle(AllocationHandle* handle, void* shareable,
                                                      int handle_type) {
    FAKE_ENTER();
    if (handle_type != 1) return cuda_not_supported;
    // As with the driver, the number itself stands in the pointer.
    const int fd =
        ::fcntl(static_cast<int>(reinterpret_cast<intptr_t>(shareable)), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return 400;
    *handle = static_cast<AllocationHandle>(fd) + 1;
    return cuda_success;
}
