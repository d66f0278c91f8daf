// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "util/result.h"

namespace memplate::gpu {

/// kernels/kernels.cu as nvcc made it: machine code for every major architecture that it knows, and
/// PTX alone, which the driver has to compile. Strings for cuModuleLoadData.
struct KernelImages {
    const char* machine_code = nullptr;
    const char* ptx = nullptr;
};

/// ErrorKind::unsupported if memplate was built without the CUDA toolkit.
[[nodiscard]] Result<KernelImages> kernel_images();

}  // namespace memplate::gpu
