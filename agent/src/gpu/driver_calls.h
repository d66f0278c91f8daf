// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace memplate::gpu {

/// What a call of the driver is for.
enum class CallPurpose : uint8_t {
    initialise,  ///< cuInit
    context,     ///< primary or not: made, taken, given back
    module,      ///< machine code to the device, kernels by name
    memory,      ///< of the device or pinned: taken and given back
    copy,        ///< and filling
    launch,      ///< kernels, graphs, callbacks
    wait,        ///< until something is done
    other,
};

/// "cuMemAlloc_v2", "cuMemcpyAsync_ptsz" → "cuMemAlloc", "cuMemcpyAsync": what programmers write.
[[nodiscard]] std::string_view plain_name(std::string_view call);
[[nodiscard]] CallPurpose purpose_of(std::string_view call);

/// Makes a context the first time it is called.
[[nodiscard]] bool creates_context(std::string_view call);
/// Takes device memory for the program.
[[nodiscard]] bool takes_memory(std::string_view call);
[[nodiscard]] bool copies_to_device(std::string_view call);
/// The index of the argument that is the kernel to launch; -1: it launches none.
[[nodiscard]] int kernel_argument(std::string_view call);
/// The index of the argument that is the number of bytes taken or moved; -1: it has none.
[[nodiscard]] int bytes_argument(std::string_view call);

}  // namespace memplate::gpu
