// SPDX-License-Identifier: Apache-2.0
#include "gpu/inject/thunks.h"

// The real function is called, not jumped to with another return address on the stack: unwinding
// and shadow stacks stay right. For that its arguments on the stack are copied: 16 words, where the
// driver's longest list takes 9. Arguments in vector registers stay where they are, as begin() and
// end() are compiled without such registers; register 8 and up are free between functions.
// clang-format off
asm(R"(
    .pushsection .text
    .balign 16
    .type memplate_gpu_common, @function
memplate_gpu_common:
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    subq $224, %rsp
    movq %rdi, 128(%rsp)
    movq %rsi, 136(%rsp)
    movq %rdx, 144(%rsp)
    movq %rcx, 152(%rsp)
    movq %r8, 160(%rsp)
    movq %r9, 168(%rsp)
    movq %rax, 176(%rsp)
    movq %r11, 184(%rsp)
    leaq 128(%rsp), %rdi
    call memplate_gpu_begin
    movq %rax, %r11
    movups 16(%rbp), %xmm8
    movups 32(%rbp), %xmm9
    movups 48(%rbp), %xmm10
    movups 64(%rbp), %xmm11
    movups 80(%rbp), %xmm12
    movups 96(%rbp), %xmm13
    movups 112(%rbp), %xmm14
    movups 128(%rbp), %xmm15
    movups %xmm8, (%rsp)
    movups %xmm9, 16(%rsp)
    movups %xmm10, 32(%rsp)
    movups %xmm11, 48(%rsp)
    movups %xmm12, 64(%rsp)
    movups %xmm13, 80(%rsp)
    movups %xmm14, 96(%rsp)
    movups %xmm15, 112(%rsp)
    movq 128(%rsp), %rdi
    movq 136(%rsp), %rsi
    movq 144(%rsp), %rdx
    movq 152(%rsp), %rcx
    movq 160(%rsp), %r8
    movq 168(%rsp), %r9
    movq 176(%rsp), %rax
    call *%r11
    movq %rax, 176(%rsp)
    movq %rdx, 208(%rsp)
    leaq 128(%rsp), %rdi
    call memplate_gpu_end
    movq 176(%rsp), %rax
    movq 208(%rsp), %rdx
    leave
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size memplate_gpu_common, . - memplate_gpu_common

    .balign 16
    .type memplate_gpu_thunks, @function
memplate_gpu_thunks:
    .cfi_startproc
    .set number, 0
    .rept 4096
    movl $number, %r11d
    jmp memplate_gpu_common
    .balign 16
    .set number, number + 1
    .endr
    .cfi_endproc
    .size memplate_gpu_thunks, . - memplate_gpu_thunks
    .popsection
)");
// clang-format on

extern "C" __attribute__((visibility("hidden"))) const char memplate_gpu_thunks[];

namespace memplate::gpu::inject {

static_assert(thunk_count == 4096 && sizeof(Frame) == 96);

unsigned long long thunk_address(unsigned number) {
    return reinterpret_cast<unsigned long long>(memplate_gpu_thunks) + 16ULL * number;
}

}  // namespace memplate::gpu::inject
