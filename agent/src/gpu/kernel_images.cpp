// SPDX-License-Identifier: Apache-2.0
#include "gpu/kernel_images.h"

#ifdef MEMPLATE_KERNELS
// clang-format off
__asm__(".section .rodata\n"
        ".balign 16\n"
        "memplate_kernels_machine_code: .incbin \"" MEMPLATE_KERNELS ".fatbin\"\n"
        ".balign 16\n"
        "memplate_kernels_ptx: .incbin \"" MEMPLATE_KERNELS ".ptx\"\n"
        ".byte 0\n"
        ".previous\n");
// clang-format on
extern "C" {
extern const char memplate_kernels_machine_code[];
extern const char memplate_kernels_ptx[];
}
#endif

namespace memplate::gpu {

Result<KernelImages> kernel_images() {
#ifdef MEMPLATE_KERNELS
    return KernelImages{memplate_kernels_machine_code, memplate_kernels_ptx};
#else
    return fail(
        ErrorKind::unsupported,
        "memplate was built without the CUDA toolkit, so it has no kernels to launch; build "
        "it where nvcc is found");
#endif
}

}  // namespace memplate::gpu
