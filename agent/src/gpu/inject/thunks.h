// SPDX-License-Identifier: Apache-2.0
//
// Functions that stand in for others of any signature: each notes its number, and one common part
// calls begin(), the real function with the same arguments, and end().
#pragma once

namespace memplate::gpu::inject {

/// What the common part keeps on the stack; thunks.cpp knows its layout.
struct Frame {
    unsigned long long arguments[6];  ///< those in registers
    unsigned long long result;        ///< before the call: the number of vector registers used
    unsigned long long thunk;         ///< its number
    unsigned long long begin_ns;
    void* record;
    unsigned long long second_result;
    unsigned long long unused;
};

inline constexpr unsigned thunk_count = 4096;
/// The address of a thunk.
[[nodiscard]] unsigned long long thunk_address(unsigned number);

}  // namespace memplate::gpu::inject

extern "C" {
/// The address of the real function.
void* memplate_gpu_begin(memplate::gpu::inject::Frame* frame);
void memplate_gpu_end(memplate::gpu::inject::Frame* frame);
}
