// SPDX-License-Identifier: Apache-2.0
//
// Start, devices and contexts.
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "fake/cuda_state.h"
#include "fake/memory.h"
#include "fake/settings.h"

using namespace memplate::gpu;
using fake_gpu::settings;
using fake_gpu::state;

namespace {

thread_local int device_of_thread = -1;

/// Those that CUDA_VISIBLE_DEVICES names by UUID or number, up to the first that is not there; all
/// if it is not set.
std::vector<CudaDevice> visible_devices() {
    std::vector<CudaDevice> result;
    const auto& devices = settings().devices;
    const char* named = std::getenv("CUDA_VISIBLE_DEVICES");
    std::istringstream names(named == nullptr ? "" : named);
    for (std::string name; std::getline(names, name, ',');) {
        CudaDevice device = 0;
        for (const auto& one : devices)
            if (one.uuid == name || std::to_string(device) == name)
                break;
            else
                ++device;
        if (static_cast<size_t>(device) == devices.size()) break;
        result.push_back(device);
    }
    for (size_t i = 0; named == nullptr && i < devices.size(); ++i)
        result.push_back(static_cast<CudaDevice>(i));
    return result;
}

bool known(CudaDevice device) {
    return device >= 0 && static_cast<size_t>(device) < settings().devices.size();
}

}  // namespace

namespace fake_gpu {

CudaState& state() {
    static auto& one = *new CudaState;  // calls may come while the process ends
    return one;
}

int current_device() {
    return device_of_thread;
}

}  // namespace fake_gpu

FAKE_EXPORT CudaResult cuInit(unsigned) {
    FAKE_ENTER();
    if (settings().devices.empty() || !settings().present) return cuda_no_device;
    state().initialized = true;
    fake_gpu::serve_checkpoints();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuDriverGetVersion(int* version) {
    FAKE_ENTER();
    *version = settings().cuda;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuGetErrorName(CudaResult result, const char** name) {
    static const std::map<CudaResult, const char*> names = {
        {1, "CUDA_ERROR_INVALID_VALUE"},   {2, "CUDA_ERROR_OUT_OF_MEMORY"},
        {3, "CUDA_ERROR_NOT_INITIALIZED"}, {46, "CUDA_ERROR_DEVICE_UNAVAILABLE"},
        {100, "CUDA_ERROR_NO_DEVICE"},     {101, "CUDA_ERROR_INVALID_DEVICE"},
        {200, "CUDA_ERROR_INVALID_IMAGE"}, {201, "CUDA_ERROR_INVALID_CONTEXT"},
        {401, "CUDA_ERROR_ILLEGAL_STATE"}, {400, "CUDA_ERROR_INVALID_HANDLE"},
        {500, "CUDA_ERROR_NOT_FOUND"},     {600, "CUDA_ERROR_NOT_READY"},
        {719, "CUDA_ERROR_LAUNCH_FAILED"}, {801, "CUDA_ERROR_NOT_SUPPORTED"},
        {999, "CUDA_ERROR_UNKNOWN"},
    };
    const auto found = names.find(result);
    if (found == names.end()) return 1;
    *name = found->second;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuGetErrorString(CudaResult result, const char** text) {
    const char* name = nullptr;
    if (cuGetErrorName(result, &name) != cuda_success) return 1;
    *text = result == cuda_no_device       ? "no CUDA-capable device is detected"
            : result == cuda_out_of_memory ? "out of memory"
                                           : "the fake driver was told to fail";
    return cuda_success;
}

FAKE_EXPORT CudaResult cuDeviceGetCount(int* count) {
    FAKE_ENTER();
    if (!state().initialized) return cuda_not_initialized;
    *count = static_cast<int>(visible_devices().size());
    return cuda_success;
}

FAKE_EXPORT CudaResult cuDeviceGet(CudaDevice* device, int ordinal) {
    FAKE_ENTER();
    const auto visible = visible_devices();
    if (ordinal < 0 || static_cast<size_t>(ordinal) >= visible.size()) return 101;
    *device = visible[static_cast<size_t>(ordinal)];
    return cuda_success;
}

FAKE_EXPORT CudaResult cuDeviceGetName(char* name, int size, CudaDevice device) {
    FAKE_ENTER();
    if (!known(device)) return 101;
    std::strncpy(name, settings().devices[device].name.c_str(), static_cast<size_t>(size));
    name[size - 1] = 0;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuDeviceGetUuid(CudaUuid* uuid, CudaDevice device) {
    FAKE_ENTER();
    if (!known(device)) return 101;
    std::memset(uuid, 0, sizeof *uuid);
    uuid->bytes[15] = static_cast<unsigned char>(device);  // settings.cpp writes the same
    return cuda_success;
}

FAKE_EXPORT CudaResult cuDeviceGetUuid_v2(CudaUuid* uuid, CudaDevice device) {
    const CudaResult result = cuDeviceGetUuid(uuid, device);
    if (result == cuda_success && settings().devices[device].mig) uuid->bytes[0] = 1;
    return result;
}

FAKE_EXPORT CudaResult cuDeviceGetAttribute(int* value, int attribute, CudaDevice device) {
    FAKE_ENTER();
    if (!known(device)) return 101;
    switch (attribute) {
        case attribute_multiprocessors:
            *value = 4;
            break;
        case attribute_compute_mode:
            *value = settings().devices[device].compute_mode;
            break;
        case attribute_capability_major:
            *value = 9;
            break;
        case attribute_capability_minor:
            *value = 0;
            break;
        case attribute_virtual_memory:
        case attribute_posix_handle:
        case attribute_ipc_event:
            *value = 1;
            break;
        case attribute_mps:
            *value = fake_gpu::is_mps_client() ? 1 : 0;
            break;
        default:
            return 1;
    }
    return cuda_success;
}

FAKE_EXPORT CudaResult cuDeviceTotalMem_v2(size_t* bytes, CudaDevice device) {
    FAKE_ENTER();
    if (!known(device)) return 101;
    *bytes = settings().devices[device].memory_bytes;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuDevicePrimaryCtxRetain(CudaContext* context, CudaDevice device) {
    FAKE_ENTER();
    if (!state().initialized) return cuda_not_initialized;
    if (!known(device)) return 101;
    const std::lock_guard lock(state().mutex);
    const fake_gpu::Device& description = settings().devices[device];
    const bool mps = fake_gpu::is_mps_client();
    if (state().contexts[device]++ == 0) {
        // In exclusive-process mode the one process may be the MPS server, with all its clients.
        if (description.compute_mode == compute_mode_exclusive_process && !mps &&
            !fake_gpu::usage(device).empty()) {
            state().contexts[device] = 0;
            return 46;
        }
        state().context_blocks[device] = fake_gpu::create_block(
            device, mps ? description.mps_context_bytes : description.context_bytes,
            mps ? fake_gpu::mps_context : "context");
        if (state().context_blocks[device].empty()) {
            state().contexts[device] = 0;
            return cuda_out_of_memory;
        }
    }
    *context = reinterpret_cast<CudaContext>(static_cast<uintptr_t>(device) + 1);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuDevicePrimaryCtxRelease_v2(CudaDevice device) {
    FAKE_ENTER();
    const std::lock_guard lock(state().mutex);
    if (!known(device) || state().contexts[device] == 0) return 201;
    if (--state().contexts[device] == 0) fake_gpu::remove_block(state().context_blocks[device]);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuCtxSetCurrent(CudaContext context) {
    FAKE_ENTER();
    device_of_thread = static_cast<int>(reinterpret_cast<uintptr_t>(context)) - 1;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuCtxSynchronize() {
    FAKE_ENTER();
    return device_of_thread < 0 ? 201 : cuda_success;
}
