// SPDX-License-Identifier: Apache-2.0
//
// The tasks "footprint" (one of N processes on a device) and "nvml" (what NVML says of it).
#include <array>
#include <optional>

#include "gpu/device_memory.h"
#include "gpu/kernel_images.h"
#include "gpu/math_libraries.h"
#include "gpu/nvml.h"
#include "gpu/worker_tasks.h"

namespace memplate::gpu {
namespace {

constexpr int matrix_edge = 256;
constexpr uint64_t matrix_bytes = uint64_t{matrix_edge} * matrix_edge * sizeof(float);
constexpr uint64_t chunk_bytes = 16 << 20;

/// What a process has on the device after its context: code, handles, weights.
class Function {
  public:
    explicit Function(const Driver& driver) : driver_(driver) {}

    /// Loads memplate's kernels and these libraries, and uses each once: with lazy loading, code
    /// gets to the device no earlier. {"kernels" | "cublas" | "cudnn": "loaded", or why not}
    Result<Json> load_code(const Json& libraries) {
        TRY_ASSIGN(scratch_, DeviceMemory::allocate(driver_, 3 * matrix_bytes));
        Json answer = Json::object();
        TRY(note(answer, "kernels", launch_kernels()));
        for (const Json& library : libraries)
            TRY(note(answer, library.get<std::string>(),
                     library == "cublas" ? use_blas() : use_dnn()));
        return answer;
    }

    Result<> load_model(uint64_t bytes) {
        TRY_ASSIGN(weights_, DeviceMemory::allocate(driver_, bytes));
        const std::vector<char> chunk(std::min(bytes, chunk_bytes), 1);
        for (uint64_t done = 0; done < bytes; done += chunk.size())
            TRY_CUDA(driver_, cuMemcpyHtoD_v2,
                     (weights_.get() + done, chunk.data(),
                      std::min<uint64_t>(chunk.size(), bytes - done)));
        TRY_CUDA(driver_, cuCtxSynchronize, ());
        return {};
    }

  private:
    /// What is not installed is left out; what fails fails.
    static Result<> note(Json& answer, const std::string& name, Result<> done) {
        if (!done && done.error().kind != ErrorKind::unsupported) return done;
        answer[name] = done ? "loaded" : done.error().message;
        return {};
    }

    Result<> launch_kernels() {
        TRY_ASSIGN(const KernelImages images, kernel_images());
        CudaModule module = nullptr;
        TRY_CUDA(driver_, cuModuleLoadData, (&module, images.machine_code));
        DevicePointer data = scratch_.get();
        unsigned long long count = 256;
        float value = 0;
        DevicePointer different = data + count * sizeof(float);
        std::array<void*, 4> parameters = {&data, &count, &value, &different};
        for (const char* name : {"memplate_fill", "memplate_add", "memplate_count_different"}) {
            CudaFunction function = nullptr;
            TRY_CUDA(driver_, cuModuleGetFunction, (&function, module, name));
            TRY_CUDA(driver_, cuLaunchKernel,
                     (function, 1, 1, 1, 256, 1, 1, 0, nullptr, parameters.data(), nullptr));
        }
        TRY_CUDA(driver_, cuCtxSynchronize, ());
        return {};
    }

    Result<> use_blas() {
        TRY_ASSIGN(Blas blas, Blas::load());
        blas_.emplace(std::move(blas));
        TRY(blas_->create(driver_));
        const DevicePointer matrix = scratch_.get();
        TRY(blas_->multiply(driver_, matrix_edge, matrix, matrix + matrix_bytes,
                            matrix + 2 * matrix_bytes));
        TRY_CUDA(driver_, cuCtxSynchronize, ());
        return {};
    }

    Result<> use_dnn() {
        TRY_ASSIGN(Dnn dnn, Dnn::load());
        dnn_.emplace(std::move(dnn));
        return dnn_->create(driver_);
    }

    const Driver& driver_;
    DeviceMemory scratch_;
    DeviceMemory weights_;
    std::optional<Blas> blas_;
    std::optional<Dnn> dnn_;
};

Result<Json> read_device(const Nvml& nvml, NvmlDevice device) {
    TRY_ASSIGN(const NvmlMemory memory, nvml.memory(device));
    Json reading = {{"used_bytes", memory.used},
                    {"free_bytes", memory.free},
                    {"total_bytes", memory.total},
                    {"processes", Json::array()}};
    for (const bool mps : {false, true}) {
        const auto list = nvml.processes(device, mps);
        if (!list && list.error().kind != ErrorKind::unsupported)
            return std::unexpected(list.error());
        if (!list) continue;
        for (const NvmlProcess& process : *list) {
            Json one = {{"pid", process.pid}, {"mps", mps}};
            if (process.used_bytes != nvml_no_value) one["bytes"] = process.used_bytes;
            reading["processes"].push_back(std::move(one));
        }
    }
    return reading;
}

}  // namespace

Result<> footprint_task(Channel& channel, const Json& request) {
    TRY(channel.receive());  // "context"
    TRY_ASSIGN(Driver driver, Driver::load());
    driver.note_calls_in(channel.note());
    TRY(driver.initialize());
    TRY_ASSIGN(const CudaDevice device, driver.device(request.value("device", 0)));
    TRY_ASSIGN(const PrimaryContext context, PrimaryContext::retain(driver, device));
    Json begun = Json::object();
    if (const auto mps = driver.attribute(device, attribute_mps)) begun["mps"] = *mps != 0;
    TRY(channel.send(begun));

    TRY(channel.receive());  // "code"
    Function function(driver);
    TRY_ASSIGN(const Json code, function.load_code(request["libraries"]));
    TRY(channel.send(code));

    TRY(channel.receive());  // "model"
    TRY(function.load_model(request.value("weights_bytes", uint64_t{0})));
    TRY(channel.send(Json::object()));
    TRY(channel.receive());  // "end"
    return {};
}

Result<> nvml_task(Channel& channel, const Json& request) {
    TRY_ASSIGN(const Nvml nvml, Nvml::load(CallNote(channel.note())));
    TRY_ASSIGN(const NvmlDevice device, nvml.device(request.value("uuid", "")));
    while (true) {
        TRY_ASSIGN(const Json message, channel.receive());
        if (message.value("type", "") == "end") return {};
        TRY_ASSIGN(const Json reading, read_device(nvml, device));
        TRY(channel.send(reading));
    }
}

}  // namespace memplate::gpu
