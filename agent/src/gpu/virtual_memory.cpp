// SPDX-License-Identifier: Apache-2.0
#include "gpu/virtual_memory.h"

namespace memplate::gpu {
namespace {

constexpr int pinned = 1;            // CU_MEM_ALLOCATION_TYPE_PINNED
constexpr int posix_descriptor = 1;  // CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
constexpr int on_device = 1;         // CU_MEM_LOCATION_TYPE_DEVICE
constexpr int read_write = 3;        // CU_MEM_ACCESS_FLAGS_PROT_READWRITE
constexpr int least = 0;             // CU_MEM_ALLOC_GRANULARITY_MINIMUM

AllocationProperties properties_on(CudaDevice device) {
    AllocationProperties properties{};
    properties.type = pinned;
    properties.requested_handle_types = posix_descriptor;
    properties.location = {on_device, device};
    return properties;
}

Result<uint64_t> rounded(const Driver& driver, CudaDevice device, uint64_t bytes) {
    const AllocationProperties properties = properties_on(device);
    size_t unit = 0;
    TRY_CUDA(driver, cuMemGetAllocationGranularity, (&unit, &properties, least));
    return (bytes + unit - 1) / unit * unit;
}

}  // namespace

Result<VirtualMemory> VirtualMemory::create(const Driver& driver, CudaDevice device,
                                            uint64_t bytes) {
    VirtualMemory memory(driver, device);
    TRY_ASSIGN(memory.bytes_, rounded(driver, device, bytes));
    const AllocationProperties properties = properties_on(device);
    TRY_CUDA(driver, cuMemCreate, (&memory.handle_, memory.bytes_, &properties, 0));
    memory.held_ = true;
    TRY(memory.map());
    return memory;
}

Result<VirtualMemory> VirtualMemory::import(const Driver& driver, CudaDevice device, int fd,
                                            uint64_t bytes) {
    VirtualMemory memory(driver, device);
    TRY_ASSIGN(memory.bytes_, rounded(driver, device, bytes));
    // The number itself stands in the pointer.
    void* shareable = reinterpret_cast<void*>(static_cast<intptr_t>(fd));
    TRY_CUDA(driver, cuMemImportFromShareableHandle,
             (&memory.handle_, shareable, posix_descriptor));
    memory.held_ = true;
    return memory;
}

Result<> VirtualMemory::map() {
    TRY_CUDA(*driver_, cuMemAddressReserve, (&address_, bytes_, 0, 0, 0));
    TRY_CUDA(*driver_, cuMemMap, (address_, bytes_, 0, handle_, 0));
    mapped_ = true;
    const AccessDescription access{{on_device, device_}, read_write};
    TRY_CUDA(*driver_, cuMemSetAccess, (address_, bytes_, &access, 1));
    return {};
}

Result<UniqueFd> VirtualMemory::export_descriptor() const {
    int fd = -1;
    TRY_CUDA(*driver_, cuMemExportToShareableHandle, (&fd, handle_, posix_descriptor, 0));
    return UniqueFd(fd);
}

Result<> VirtualMemory::release() {
    Result<> unmapped;
    Result<> freed;
    Result<> released;
    const auto call = [&](const char* name, auto pointer, auto... arguments) {
        driver_->enter(name);
        return driver_->check(pointer(arguments...), name);
    };
    if (std::exchange(mapped_, false))
        unmapped = call("cuMemUnmap", driver_->calls.cuMemUnmap, address_, bytes_);
    if (address_ != 0)
        freed = call("cuMemAddressFree", driver_->calls.cuMemAddressFree,
                     std::exchange(address_, 0), bytes_);
    if (std::exchange(held_, false))
        released = call("cuMemRelease", driver_->calls.cuMemRelease, handle_);
    TRY(std::move(unmapped));
    TRY(std::move(freed));
    return released;
}

VirtualMemory& VirtualMemory::operator=(VirtualMemory&& other) noexcept {
    std::swap(driver_, other.driver_);
    std::swap(device_, other.device_);
    std::swap(bytes_, other.bytes_);
    std::swap(handle_, other.handle_);
    std::swap(held_, other.held_);
    std::swap(mapped_, other.mapped_);
    std::swap(address_, other.address_);
    return *this;
}

}  // namespace memplate::gpu
