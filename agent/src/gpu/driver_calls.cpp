// SPDX-License-Identifier: Apache-2.0
#include "gpu/driver_calls.h"

#include <algorithm>
#include <array>
#include <utility>

namespace memplate::gpu {
namespace {

bool one_of(std::string_view name, std::initializer_list<std::string_view> names) {
    return std::ranges::find(names, name) != names.end();
}

bool starts_with_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
    return std::ranges::any_of(names, [&](const auto& one) { return name.starts_with(one); });
}

}  // namespace

std::string_view plain_name(std::string_view call) {
    for (const std::string_view suffix : {"_ptsz", "_ptds"})
        if (call.ends_with(suffix)) call.remove_suffix(suffix.size());
    const size_t size = call.size();
    if (size > 3 && call[size - 3] == '_' && call[size - 2] == 'v' && call[size - 1] >= '0' &&
        call[size - 1] <= '9')
        call.remove_suffix(3);
    return call;
}

CallPurpose purpose_of(std::string_view call) {
    using enum CallPurpose;
    const std::string_view name = plain_name(call);
    if (name == "cuInit") return initialise;
    if (name.ends_with("Synchronize") ||
        one_of(name, {"cuEventQuery", "cuStreamQuery", "cuStreamWaitEvent"}))
        return wait;
    if (creates_context(name) ||
        starts_with_one_of(name, {"cuDevicePrimaryCtx", "cuCtxDestroy", "cuGreenCtx"}))
        return context;
    if (starts_with_one_of(name, {"cuModule", "cuLibrary", "cuLink", "cuKernel", "cuFunc"}))
        return module;
    if (starts_with_one_of(name, {"cuMemcpy", "cuMemset", "cuMemPrefetch"})) return copy;
    if (starts_with_one_of(name,
                           {"cuLaunch", "cuGraph", "cuStreamBeginCapture", "cuStreamEndCapture"}))
        return launch;
    if (starts_with_one_of(name, {"cuMem", "cuArray", "cuMipmappedArray", "cuMulticast"}))
        return one_of(name, {"cuMemGetInfo"}) ? other : memory;
    return other;
}

bool creates_context(std::string_view call) {
    return one_of(plain_name(call), {"cuDevicePrimaryCtxRetain", "cuCtxCreate"});
}

bool takes_memory(std::string_view call) {
    return one_of(plain_name(call), {"cuMemAlloc", "cuMemAllocPitch", "cuMemAllocManaged",
                                     "cuMemAllocAsync", "cuMemAllocFromPoolAsync", "cuMemCreate"});
}

bool copies_to_device(std::string_view call) {
    return one_of(plain_name(call), {"cuMemcpyHtoD", "cuMemcpyHtoDAsync"});
}

int kernel_argument(std::string_view call) {
    const std::string_view name = plain_name(call);
    if (name == "cuLaunchKernelEx") return 1;
    return one_of(name, {"cuLaunchKernel", "cuLaunchCooperativeKernel"}) ? 0 : -1;
}

int bytes_argument(std::string_view call) {
    // In the driver's documentation; only the first three arguments are seen.
    constexpr std::array<std::pair<std::string_view, int>, 19> table = {{
        {"cuMemAlloc", 1},         {"cuMemAllocAsync", 1},   {"cuMemAllocFromPoolAsync", 1},
        {"cuMemAllocHost", 1},     {"cuMemAllocManaged", 1}, {"cuMemCreate", 1},
        {"cuMemHostAlloc", 1},     {"cuMemHostRegister", 1}, {"cuMemcpy", 2},
        {"cuMemcpyAsync", 2},      {"cuMemcpyDtoD", 2},      {"cuMemcpyDtoDAsync", 2},
        {"cuMemcpyDtoH", 2},       {"cuMemcpyDtoHAsync", 2}, {"cuMemcpyHtoD", 2},
        {"cuMemcpyHtoDAsync", 2},  {"cuMemsetD8", 2},        {"cuMemsetD8Async", 2},
        {"cuMemPrefetchAsync", 1},
    }};
    const auto found =
        std::ranges::find(table, plain_name(call), &std::pair<std::string_view, int>::first);
    return found == table.end() ? -1 : found->second;
}

}  // namespace memplate::gpu
