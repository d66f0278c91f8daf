// SPDX-License-Identifier: Apache-2.0
//
// The kernels that workers launch. tests/gpu/fake computes the same on the CPU.

/// data[i] = value
extern "C" __global__ void memplate_fill(float* data, unsigned long long count, float value) {
    const unsigned long long step = 1ULL * gridDim.x * blockDim.x;
    for (unsigned long long i = 1ULL * blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        data[i] = value;
}

/// data[i] += value
extern "C" __global__ void memplate_add(float* data, unsigned long long count, float value) {
    const unsigned long long step = 1ULL * gridDim.x * blockDim.x;
    for (unsigned long long i = 1ULL * blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        data[i] += value;
}

/// *different += how many of data are not `value`
extern "C" __global__ void memplate_count_different(const float* data, unsigned long long count,
                                                    float value, unsigned long long* different) {
    const unsigned long long step = 1ULL * gridDim.x * blockDim.x;
    unsigned long long found = 0;
    for (unsigned long long i = 1ULL * blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        if (data[i] != value) ++found;
    if (found != 0) atomicAdd(different, found);
}
