// SPDX-License-Identifier: Apache-2.0
//
// Modules, and the kernels of agent/src/gpu/kernels computed on the CPU.
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "fake/cuda_compiler.h"
#include "fake/cuda_state.h"
#include "fake/memory.h"
#include "fake/settings.h"

using namespace memplate::gpu;
using fake_gpu::state;

namespace {

template <class T>
T argument(void** parameters, int index) {
    T value;
    std::memcpy(&value, parameters[index], sizeof value);
    return value;
}

struct Data {
    float* first;
    unsigned long long count;
    float value;
};

Data data_of(void** parameters) {
    return {reinterpret_cast<float*>(argument<DevicePointer>(parameters, 0)),
            argument<unsigned long long>(parameters, 1), argument<float>(parameters, 2)};
}

void fill(void** parameters) {
    const Data data = data_of(parameters);
    for (unsigned long long i = 0; i < data.count; ++i) data.first[i] = data.value;
}

void add(void** parameters) {
    const Data data = data_of(parameters);
    for (unsigned long long i = 0; i < data.count; ++i) data.first[i] += data.value;
}

void count_different(void** parameters) {
    const Data data = data_of(parameters);
    auto* different = reinterpret_cast<unsigned long long*>(argument<DevicePointer>(parameters, 3));
    for (unsigned long long i = 0; i < data.count; ++i) *different += data.first[i] != data.value;
}

using Kernel = void (*)(void**);

bool lazy() {
    const char* mode = std::getenv("CUDA_MODULE_LOADING");
    return mode == nullptr || std::string_view(mode) != "EAGER";
}

}  // namespace

FAKE_EXPORT CudaResult cuModuleGetLoadingMode(int* mode) {
    FAKE_ENTER();
    *mode = lazy() ? loading_lazy : loading_eager;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuModuleLoadData(CudaModule* module, const void* image) {
    FAKE_ENTER();
    const int device = fake_gpu::current_device();
    if (device < 0) return 201;
    if (image == nullptr) return 200;
    if (const int result = fake_gpu::compile(image)) return result;
    const uint64_t bytes = fake_gpu::settings().devices[device].module_bytes;
    const std::string block = fake_gpu::create_block(device, lazy() ? bytes / 2 : bytes, "module");
    if (block.empty()) return cuda_out_of_memory;
    const std::lock_guard lock(state().mutex);
    const uint64_t handle = state().next_handle++;
    state().modules[handle] = block;
    *module = reinterpret_cast<CudaModule>(handle);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuModuleUnload(CudaModule module) {
    FAKE_ENTER();
    const std::lock_guard lock(state().mutex);
    const auto found = state().modules.find(reinterpret_cast<uint64_t>(module));
    if (found == state().modules.end()) return 400;
    fake_gpu::remove_block(found->second);
    state().modules.erase(found);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuModuleGetFunction(CudaFunction* function, CudaModule, const char* name) {
    FAKE_ENTER();
    static const std::map<std::string_view, Kernel> kernels = {
        {"memplate_fill", fill},
        {"memplate_add", add},
        {"memplate_count_different", count_different},
    };
    const auto found = kernels.find(name);
    if (found == kernels.end()) return 500;
    *function = reinterpret_cast<CudaFunction>(found->second);
    return cuda_success;
}

FAKE_EXPORT CudaResult cuLaunchKernel(CudaFunction function, unsigned, unsigned, unsigned, unsigned,
                                      unsigned, unsigned, unsigned, CudaStream, void** parameters,
                                      void**) {
    FAKE_ENTER();
    if (fake_gpu::current_device() < 0) return 201;
    reinterpret_cast<Kernel>(function)(parameters);
    return cuda_success;
}
