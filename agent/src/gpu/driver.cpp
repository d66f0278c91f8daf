// SPDX-License-Identifier: Apache-2.0
#include "gpu/driver.h"

#include <algorithm>

namespace memplate::gpu {

Result<Driver> Driver::load() {
    auto library = Library::open({"libcuda.so.1"});
    if (!library)
        return fail(ErrorKind::unsupported,
                    fmt::format("no CUDA driver on this machine ({}); install NVIDIA's driver",
                                library.error().message));
    Driver driver(std::move(*library));
    const char* missing = nullptr;
    enum Need { must, may };
#define MEMPLATE_FIND(kind, symbol, arguments) \
    if (!driver.library_.find(#symbol, driver.calls.symbol) && (kind) == must) missing = #symbol;
    MEMPLATE_CUDA_CALLS(MEMPLATE_FIND)
#undef MEMPLATE_FIND
    if (missing != nullptr)
        return fail(ErrorKind::unsupported,
                    fmt::format("{} has no {}: the driver is older than CUDA 11.2; update it",
                                driver.path(), missing));
    return driver;
}

Result<> Driver::check(CudaResult result, const char* call) const {
    leave();
    if (result == cuda_success) return {};
    const char* name = nullptr;
    const char* text = nullptr;
    if (calls.cuGetErrorName(result, &name) != cuda_success || name == nullptr) name = "unknown";
    if (calls.cuGetErrorString(result, &text) != cuda_success || text == nullptr)
        text = "unknown error";
    const ErrorKind kind =
        result == cuda_not_supported ? ErrorKind::unsupported : ErrorKind::failed;
    Failure failure = fail(kind, fmt::format("{}: {} ({}, {})", call, text, name, result));
    failure.error().code = result;
    return failure;
}

Result<> Driver::initialize() const {
    enter("cuInit");
    auto done = check(calls.cuInit(0), "cuInit");
    // Whatever keeps the driver from starting is a fact about the machine.
    if (!done) done.error().kind = ErrorKind::unsupported;
    return done;
}

Result<int> Driver::version() const {
    int version = 0;
    TRY_CUDA(*this, cuDriverGetVersion, (&version));
    return version;
}

Result<CudaDevice> Driver::device(int ordinal) const {
    int count = 0;
    TRY_CUDA(*this, cuDeviceGetCount, (&count));
    if (ordinal < 0 || ordinal >= count)
        return fail(ErrorKind::usage, fmt::format("device {}: there {} {}, counted from 0", ordinal,
                                                  count == 1 ? "is" : "are", count));
    CudaDevice device = 0;
    TRY_CUDA(*this, cuDeviceGet, (&device, ordinal));
    return device;
}

Result<std::string> Driver::uuid(CudaDevice device) const {
    CudaUuid whole{};
    TRY_CUDA(*this, cuDeviceGetUuid, (&whole, device));
    CudaUuid uuid = whole;
    // From 11.4 on: of a MIG instance its own instead of the GPU's.
    if (calls.cuDeviceGetUuid_v2 != nullptr) TRY_CUDA(*this, cuDeviceGetUuid_v2, (&uuid, device));
    std::string text = std::ranges::equal(uuid.bytes, whole.bytes) ? "GPU-" : "MIG-";
    for (size_t i = 0; i < sizeof uuid.bytes; ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        text += fmt::format("{:02x}", uuid.bytes[i]);
    }
    return text;
}

Result<int> Driver::attribute(CudaDevice device, int attribute) const {
    int value = 0;
    TRY_CUDA(*this, cuDeviceGetAttribute, (&value, attribute, device));
    return value;
}

std::string cuda_version_text(int version) {
    return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

Result<PrimaryContext> PrimaryContext::retain(const Driver& driver, CudaDevice device) {
    CudaContext context = nullptr;
    TRY_CUDA(driver, cuDevicePrimaryCtxRetain, (&context, device));
    PrimaryContext retained(driver, device);
    TRY_CUDA(driver, cuCtxSetCurrent, (context));
    return retained;
}

PrimaryContext::~PrimaryContext() {
    if (driver_ != nullptr) (void)driver_->calls.cuDevicePrimaryCtxRelease_v2(device_);
}

}  // namespace memplate::gpu
