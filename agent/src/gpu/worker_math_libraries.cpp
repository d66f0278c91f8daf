// SPDX-License-Identifier: Apache-2.0
#include "gpu/math_libraries.h"

namespace memplate::gpu {
namespace {

Result<> check(const Driver& driver, int status, const char* call) {
    driver.leave();
    if (status == 0) return {};
    Failure failure = fail(fmt::format("{}: status {}", call, status));
    failure.error().code = status;
    return failure;
}

/// cuBLAS takes the driver's addresses as pointers.
float* pointer(DevicePointer address) {
    return reinterpret_cast<float*>(address);
}

}  // namespace

#define MEMPLATE_FIND(symbol, result, arguments)              \
    if (!loaded.library_.find(#symbol, loaded.calls_.symbol)) \
        return fail(ErrorKind::unsupported,                   \
                    fmt::format("{} has no {}", loaded.library_.path(), #symbol));

Result<Blas> Blas::load() {
    // Newest first; 11 is what goes with the oldest driver that memplate takes.
    TRY_ASSIGN(Library library,
               Library::open({"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"}));
    Blas loaded(std::move(library));
    MEMPLATE_BLAS_CALLS(MEMPLATE_FIND)
    return loaded;
}

Result<> Blas::create(const Driver& driver) {
    driver.enter("cublasCreate_v2");
    return check(driver, calls_.cublasCreate_v2(&handle_), "cublasCreate_v2");
}

Result<> Blas::multiply(const Driver& driver, int edge, DevicePointer a, DevicePointer b,
                        DevicePointer c) {
    const float one = 1;
    const float zero = 0;
    driver.enter("cublasSgemm_v2");
    return check(
        driver,
        calls_.cublasSgemm_v2(handle_, blas_not_transposed, blas_not_transposed, edge, edge, edge,
                              &one, pointer(a), edge, pointer(b), edge, &zero, pointer(c), edge),
        "cublasSgemm_v2");
}

Json Blas::describe() const {
    int version = 0;
    (void)calls_.cublasGetVersion_v2(handle_, &version);
    return {{"library", library_.path()}, {"version", version}};
}

Blas::~Blas() {
    if (handle_ != nullptr) (void)calls_.cublasDestroy_v2(handle_);
}

Result<Dnn> Dnn::load() {
    TRY_ASSIGN(Library library, Library::open({"libcudnn.so.9", "libcudnn.so.8"}));
    Dnn loaded(std::move(library));
    MEMPLATE_DNN_CALLS(MEMPLATE_FIND)
    return loaded;
}

Result<> Dnn::create(const Driver& driver) {
    driver.enter("cudnnCreate");
    return check(driver, calls_.cudnnCreate(&handle_), "cudnnCreate");
}

Json Dnn::describe() const {
    return {{"library", library_.path()}, {"version", calls_.cudnnGetVersion()}};
}

Dnn::~Dnn() {
    if (handle_ != nullptr) (void)calls_.cudnnDestroy(handle_);
}

}  // namespace memplate::gpu
