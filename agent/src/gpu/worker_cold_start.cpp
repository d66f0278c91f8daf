// SPDX-License-Identifier: Apache-2.0
//
// One cold start: everything a function does before its first answer, a stamp after each step.
#include <algorithm>
#include <cstdlib>
#include <set>

#include "gpu/device_memory.h"
#include "gpu/kernel_images.h"
#include "gpu/math_libraries.h"
#include "gpu/worker_tasks.h"
#include "util/clock.h"
#include "util/proc.h"

namespace memplate::gpu {
namespace {

constexpr int matrix_edge = 1024;
constexpr uint64_t matrix_elements = uint64_t{matrix_edge} * matrix_edge;
constexpr float weight = 0.5F;

/// The end of each phase; the next one begins there, so that the phases have no gaps.
class Timeline {
  public:
    void end(const char* phase) { stamps_.push_back({phase, monotonic_ns()}); }
    [[nodiscard]] Json json() const { return stamps_; }

  private:
    Json stamps_ = Json::array();
};

/// Host memory with the weights in it: of the C library, or pinned by the driver.
class HostWeights {
  public:
    static Result<HostWeights> create(const Driver& driver, uint64_t count, bool pinned) {
        HostWeights weights;
        if (pinned) {
            void* memory = nullptr;
            TRY_CUDA(driver, cuMemAllocHost_v2, (&memory, count * sizeof(float)));
            weights.driver_ = &driver;
            weights.data_ = static_cast<float*>(memory);
        } else {
            weights.data_ = static_cast<float*>(std::malloc(count * sizeof(float)));
            if (weights.data_ == nullptr) return fail_errno(ENOMEM, "memory for the weights");
        }
        std::fill_n(weights.data_, count, weight);
        return weights;
    }
    HostWeights(HostWeights&& other) noexcept
        : driver_(other.driver_), data_(std::exchange(other.data_, nullptr)) {}
    HostWeights& operator=(HostWeights&&) = delete;
    ~HostWeights() {
        if (driver_ != nullptr && data_ != nullptr)
            (void)driver_->calls.cuMemFreeHost(data_);
        else
            std::free(data_);
    }
    [[nodiscard]] const float* data() const { return data_; }

  private:
    HostWeights() = default;
    const Driver* driver_ = nullptr;  ///< of pinned memory only
    float* data_ = nullptr;
};

Result<> launch(const Driver& driver, CudaFunction kernel, std::vector<void*> parameters) {
    constexpr unsigned blocks = 256;
    constexpr unsigned threads = 256;
    TRY_CUDA(driver, cuLaunchKernel,
             (kernel, blocks, 1, 1, threads, 1, 1, 0, nullptr, parameters.data(), nullptr));
    TRY_CUDA(driver, cuCtxSynchronize, ());
    return {};
}

Result<> fill(const Driver& driver, CudaFunction kernel, DevicePointer data, uint64_t count,
              float value) {
    return launch(driver, kernel, {&data, &count, &value});
}

/// Fails unless each of `count` floats on the device is `value`.
Result<> verify(const Driver& driver, CudaModule module, DevicePointer data, uint64_t count,
                float value, std::string_view what) {
    CudaFunction kernel = nullptr;
    TRY_CUDA(driver, cuModuleGetFunction, (&kernel, module, "memplate_count_different"));
    TRY_ASSIGN(const DeviceMemory counter, DeviceMemory::allocate(driver, sizeof(uint64_t)));
    DevicePointer address = counter.get();
    uint64_t different = 0;
    TRY_CUDA(driver, cuMemcpyHtoD_v2, (address, &different, sizeof different));
    TRY(launch(driver, kernel, {&data, &count, &value, &address}));
    TRY_CUDA(driver, cuMemcpyDtoH_v2, (&different, address, sizeof different));
    if (different != 0)
        return fail(
            fmt::format("{}: {} of {} elements are wrong on the device", what, different, count));
    return {};
}

/// The files that this process has mapped: what a cold page cache has to be without.
Result<Json> mapped_files() {
    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    TRY_ASSIGN(const auto mappings, proc::mappings(proc.get(), ::getpid()));
    std::set<std::string> paths;
    for (const auto& mapping : mappings)
        if (mapping.path.starts_with('/') && !mapping.path.starts_with("/dev/") &&
            !mapping.path.starts_with("/memfd:") && !mapping.path.ends_with(" (deleted)"))
            paths.insert(mapping.path);
    return Json(paths);
}

std::string loading_mode(const Driver& driver) {
    int mode = loading_eager;  // before 11.7 there was nothing else
    if (driver.calls.cuModuleGetLoadingMode != nullptr)
        (void)driver.calls.cuModuleGetLoadingMode(&mode);
    return mode == loading_lazy ? "lazy" : "eager";
}

}  // namespace

Result<> cold_start_task(Channel& channel, const Json& request) {
    Timeline timeline;
    const uint64_t weights_bytes = request.value("weights_bytes", uint64_t{0});
    const uint64_t count = weights_bytes / sizeof(float);
    TRY_ASSIGN(const KernelImages images, kernel_images());
    timeline.end("set_up");

    TRY_ASSIGN(Driver driver, Driver::load());
    driver.note_calls_in(channel.note());
    timeline.end("library_load");
    TRY(driver.initialize());
    timeline.end("cuinit");
    TRY_ASSIGN(const CudaDevice device, driver.device(request.value("device", 0)));
    TRY_ASSIGN(const PrimaryContext context, PrimaryContext::retain(driver, device));
    timeline.end("context");

    CudaModule module = nullptr;
    TRY_CUDA(driver, cuModuleLoadData,
             (&module, request.value("ptx", false) ? images.ptx : images.machine_code));
    timeline.end("module_load");
    CudaFunction kernel = nullptr;
    TRY_CUDA(driver, cuModuleGetFunction, (&kernel, module, "memplate_fill"));
    timeline.end("function");

    TRY_ASSIGN(const DeviceMemory weights, DeviceMemory::allocate(driver, weights_bytes));
    TRY_ASSIGN(const DeviceMemory matrices,
               DeviceMemory::allocate(driver, 3 * matrix_elements * sizeof(float)));
    timeline.end("allocation");
    const DevicePointer a = matrices.get();
    const DevicePointer b = a + matrix_elements * sizeof(float);
    const DevicePointer c = b + matrix_elements * sizeof(float);
    TRY(fill(driver, kernel, a, matrix_elements, 1));
    timeline.end("first_launch");
    TRY(fill(driver, kernel, b, matrix_elements, 2));
    timeline.end("second_launch");

    TRY_ASSIGN(const HostWeights host,
               HostWeights::create(driver, count, request.value("pinned", false)));
    timeline.end("host_weights");
    TRY_CUDA(driver, cuMemcpyHtoD_v2, (weights.get(), host.data(), count * sizeof(float)));
    TRY_CUDA(driver, cuCtxSynchronize, ());
    timeline.end("copy");

    // Looking for a library that is not there takes time, too.
    const bool with_blas = request.value("cublas", false);
    auto blas = with_blas ? Blas::load() : Result<Blas>(fail("not asked for"));
    if (with_blas) timeline.end("cublas_load");
    if (blas) {
        TRY(blas->create(driver));
        timeline.end("cublas_create");
        TRY(blas->multiply(driver, matrix_edge, a, b, c));
        TRY_CUDA(driver, cuCtxSynchronize, ());
        timeline.end("product");
    }
    const bool with_dnn = request.value("cudnn", false);
    auto dnn = with_dnn ? Dnn::load() : Result<Dnn>(fail("not asked for"));
    if (with_dnn) timeline.end("cudnn_load");
    if (dnn) {
        TRY(dnn->create(driver));
        timeline.end("cudnn_create");
    }
    TRY(channel.send({{"stamps", timeline.json()}}));

    Json libraries;
    libraries["cublas"] = blas ? blas->describe() : Json{{"missing", blas.error().message}};
    libraries["cudnn"] = dnn ? dnn->describe() : Json{{"missing", dnn.error().message}};
    TRY(verify(driver, module, weights.get(), count, weight, "weights"));
    if (blas) TRY(verify(driver, module, c, matrix_elements, 2.0F * matrix_edge, "product"));
    TRY_ASSIGN(const Json files, mapped_files());
    return channel.send(
        {{"module_loading", loading_mode(driver)}, {"libraries", libraries}, {"files", files}});
}

}  // namespace memplate::gpu
