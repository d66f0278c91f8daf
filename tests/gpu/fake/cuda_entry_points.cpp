// SPDX-License-Identifier: Apache-2.0
//
// cuGetProcAddress: the CUDA runtime finds all its entry points by it.
#include <string_view>

#include "fake/cuda_state.h"
#include "fake/settings.h"

using namespace memplate::gpu;

extern "C" {
#define FAKE_DECLARE(kind, symbol, arguments) CudaResult symbol arguments;
MEMPLATE_CUDA_CALLS(FAKE_DECLARE)
#undef FAKE_DECLARE
CudaResult cuGetProcAddress(const char* name, void** address, int cuda, uint64_t flags);
CudaResult cuGetProcAddress_v2(const char* name, void** address, int cuda, uint64_t flags,
                               int* status);
}

namespace {

/// As in NVIDIA's, not everything that it names is exported.
CudaResult get_memory_info(size_t* free, size_t* total) {
    return cuMemGetInfo_v2(free, total);
}

/// "cuMemAlloc_v2" → "cuMemAlloc"
std::string_view without_version(std::string_view symbol) {
    const size_t suffix = symbol.rfind("_v");
    return suffix == symbol.npos ? symbol : symbol.substr(0, suffix);
}

const std::map<std::string_view, void*>& entry_points() {
    static const auto& table = *new std::map<std::string_view, void*>([] {
        std::map<std::string_view, void*> found;
#define FAKE_ENTRY(kind, symbol, arguments) \
    found[without_version(#symbol)] = reinterpret_cast<void*>(symbol);
        MEMPLATE_CUDA_CALLS(FAKE_ENTRY)
#undef FAKE_ENTRY
        found["cuMemGetInfo"] = reinterpret_cast<void*>(get_memory_info);
        found["cuGetProcAddress"] = reinterpret_cast<void*>(cuGetProcAddress_v2);
        return found;
    }());
    return table;
}

}  // namespace

FAKE_EXPORT CudaResult cuGetProcAddress_v2(const char* name, void** address, int, uint64_t,
                                           int* status) {
    FAKE_ENTER();
    const auto found = entry_points().find(name);
    if (status != nullptr) *status = found == entry_points().end() ? 1 : 0;
    if (found == entry_points().end()) return 500;
    *address = found->second;
    return cuda_success;
}

FAKE_EXPORT CudaResult cuGetProcAddress(const char* name, void** address, int cuda,
                                        uint64_t flags) {
    return cuGetProcAddress_v2(name, address, cuda, flags, nullptr);
}
