// SPDX-License-Identifier: Apache-2.0
//
// cuBLAS and cuDNN where they are installed, and the few of their calls that a cold start makes.
#pragma once

#include "gpu/driver.h"
#include "util/json.h"

namespace memplate::gpu {

using BlasHandle = struct BlasContext*;
using DnnHandle = struct DnnContext*;

inline constexpr int blas_not_transposed = 0;

/// X(symbol, result, arguments)
#define MEMPLATE_BLAS_CALLS(X)                                                                  \
    X(cublasCreate_v2, int, (BlasHandle * handle))                                              \
    X(cublasDestroy_v2, int, (BlasHandle))                                                      \
    X(cublasGetVersion_v2, int, (BlasHandle, int* version))                                     \
    X(cublasSgemm_v2, int,                                                                      \
      (BlasHandle, int transpose_a, int transpose_b, int m, int n, int k, const float* alpha,   \
       const float* a, int a_stride, const float* b, int b_stride, const float* beta, float* c, \
       int c_stride))
#define MEMPLATE_DNN_CALLS(X)                 \
    X(cudnnCreate, int, (DnnHandle * handle)) \
    X(cudnnDestroy, int, (DnnHandle))         \
    X(cudnnGetVersion, size_t, ())

/// The library, and a handle of it once create() was called. Errors carry the library's status.
class Blas {
  public:
    /// ErrorKind::unsupported if it is not installed, or lacks a call.
    static Result<Blas> load();
    [[nodiscard]] Result<> create(const Driver& driver);
    /// c = a * b for square matrices of `edge` rows on the device; does not wait for it.
    [[nodiscard]] Result<> multiply(const Driver& driver, int edge, DevicePointer a,
                                    DevicePointer b, DevicePointer c);
    /// {"library", "version"}
    [[nodiscard]] Json describe() const;
    Blas(Blas&& other) noexcept
        : library_(std::move(other.library_)),
          calls_(other.calls_),
          handle_(std::exchange(other.handle_, nullptr)) {}
    ~Blas();

  private:
    explicit Blas(Library library) : library_(std::move(library)) {}
    struct Calls {
#define MEMPLATE_MEMBER(symbol, result, arguments) result(*symbol) arguments = nullptr;
        MEMPLATE_BLAS_CALLS(MEMPLATE_MEMBER)
    };
    Library library_;
    Calls calls_;
    BlasHandle handle_ = nullptr;
};

class Dnn {
  public:
    static Result<Dnn> load();
    [[nodiscard]] Result<> create(const Driver& driver);
    [[nodiscard]] Json describe() const;
    Dnn(Dnn&& other) noexcept
        : library_(std::move(other.library_)),
          calls_(other.calls_),
          handle_(std::exchange(other.handle_, nullptr)) {}
    ~Dnn();

  private:
    explicit Dnn(Library library) : library_(std::move(library)) {}
    struct Calls {
        MEMPLATE_DNN_CALLS(MEMPLATE_MEMBER)
#undef MEMPLATE_MEMBER
    };
    Library library_;
    Calls calls_;
    DnnHandle handle_ = nullptr;
};

}  // namespace memplate::gpu
