// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "gpu/kernel_images.h"
#include "gpu/nvml.h"
#include "gpu/worker_tasks.h"
#include "util/fs.h"

namespace memplate::gpu {
namespace {

constexpr std::array compute_modes = {"default", "exclusive-thread", "prohibited",
                                      "exclusive-process"};

/// Adds what NVML knows of a device; what it refuses to tell is left out.
void add_from_nvml(const Nvml& nvml, const std::string& uuid, Json& device) {
    const auto handle = nvml.device(uuid);
    if (!handle) return;
    if (const auto enabled = nvml.persistence(*handle)) device["persistence"] = *enabled;
    if (const auto divided = nvml.mig(*handle)) device["mig"] = *divided;
    if (const auto memory = nvml.memory(*handle)) device["used_bytes"] = memory->used;
}

Result<Json> describe_device(const Driver& driver, int ordinal, const Nvml* nvml) {
    TRY_ASSIGN(const CudaDevice device, driver.device(ordinal));
    std::array<char, 256> name{};
    TRY_CUDA(driver, cuDeviceGetName, (name.data(), name.size(), device));
    TRY_ASSIGN(const std::string uuid, driver.uuid(device));
    size_t bytes = 0;
    TRY_CUDA(driver, cuDeviceTotalMem_v2, (&bytes, device));
    const auto number = [&](int attribute) { return driver.attribute(device, attribute); };
    TRY_ASSIGN(const int major, number(attribute_capability_major));
    TRY_ASSIGN(const int minor, number(attribute_capability_minor));
    Json description = {{"ordinal", ordinal},
                        {"name", name.data()},
                        {"uuid", uuid},
                        {"memory_bytes", bytes},
                        {"capability", fmt::format("{}.{}", major, minor)}};
    if (const auto value = number(attribute_multiprocessors))
        description["multiprocessors"] = *value;
    if (const auto mode = number(attribute_compute_mode))
        description["compute_mode"] =
            static_cast<size_t>(*mode) < compute_modes.size() ? compute_modes[*mode] : "unknown";
    // A driver that does not know an attribute cannot do what it stands for.
    description["virtual_memory"] = number(attribute_virtual_memory).value_or(0) != 0;
    description["posix_handles"] = number(attribute_posix_handle).value_or(0) != 0;
    description["ipc_events"] = number(attribute_ipc_event).value_or(0) != 0;
    if (nvml != nullptr) add_from_nvml(*nvml, uuid, description);
    if (uuid.starts_with("MIG-")) description["mig"] = true;  // NVML tells it of whole GPUs
    return description;
}

Result<int> loading_mode(const Driver& driver) {
    int mode = 0;
    TRY_CUDA(driver, cuModuleGetLoadingMode, (&mode));
    return mode;
}

Json describe_checkpoint(const Driver& driver) {
    const auto support = check_checkpoint_support(driver);
    if (support) return {{"supported", true}};
    return {{"supported", false}, {"reason", support.error().message}};
}

/// Variables that change what a cold start costs.
Json describe_environment() {
    Json variables = Json::object();
    for (const char* name :
         {"CUDA_VISIBLE_DEVICES", "CUDA_MODULE_LOADING", "CUDA_MODULE_DATA_LOADING",
          "CUDA_CACHE_DISABLE", "CUDA_CACHE_PATH", "CUDA_CACHE_MAXSIZE", "CUDA_FORCE_PTX_JIT",
          "CUDA_DISABLE_PTX_JIT", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING",
          "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_MPS_PIPE_DIRECTORY",
          "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "LD_BIND_NOW", "LD_LIBRARY_PATH", "LD_PRELOAD"})
        if (const char* value = std::getenv(name)) variables[name] = value;
    return variables;
}

Json describe_mps() {
    const char* named = std::getenv("CUDA_MPS_PIPE_DIRECTORY");
    const std::string directory = named != nullptr ? named : "/tmp/nvidia-mps";
    struct stat status{};
    const bool running = ::stat((directory + "/control").c_str(), &status) == 0;
    return {{"running", running}, {"pipe_directory", directory}};
}

Json describe_jit_cache() {
    const char* named = std::getenv("CUDA_CACHE_PATH");
    const char* home = std::getenv("HOME");
    const std::string path =
        named != nullptr ? named : std::string(home != nullptr ? home : "") + "/.nv/ComputeCache";
    uint64_t bytes = 0;
    std::error_code error;
    for (std::filesystem::recursive_directory_iterator entry(path, error), end;
         !error && entry != end; entry.increment(error)) {
        std::error_code ignored;  // others may be clearing it
        if (entry->is_regular_file(ignored)) bytes += entry->file_size(ignored);
    }
    return {{"path", path}, {"bytes", bytes}};
}

}  // namespace

Result<> info_task(Channel& channel, const Json&) {
    TRY_ASSIGN(Driver driver, Driver::load());
    driver.note_calls_in(channel.note());
    TRY(driver.initialize());
    TRY_ASSIGN(const int version, driver.version());
    Json info = {{"driver", {{"library", driver.path()}}}};
    const auto nvml = Nvml::load(CallNote(channel.note()));
    if (nvml) {
        if (const auto text = nvml->driver_version()) info["driver"]["version"] = *text;
    }
    if (const auto text = read_file("/proc/driver/nvidia/version"))
        info["driver"]["kernel_module"] = text->substr(0, text->find('\n'));
    info["cuda"] = version;
    info["cuda_text"] = cuda_version_text(version);
    if (driver.calls.cuModuleGetLoadingMode == nullptr)
        info["module_loading"] = "eager";  // before 11.7 there was nothing else
    else if (const auto mode = loading_mode(driver))
        info["module_loading"] = *mode == loading_lazy ? "lazy" : "eager";
    info["checkpoint"] = describe_checkpoint(driver);
    info["nvml"] = nvml ? Json{{"available", true}}
                        : Json{{"available", false}, {"reason", nvml.error().message}};
    info["mps"] = describe_mps();
    info["environment"] = describe_environment();
    info["jit_cache"] = describe_jit_cache();
    info["kernels"] = kernel_images().has_value();
    int count = 0;
    TRY_CUDA(driver, cuDeviceGetCount, (&count));
    info["devices"] = Json::array();
    for (int ordinal = 0; ordinal < count; ++ordinal) {
        TRY_ASSIGN(Json device, describe_device(driver, ordinal, nvml ? &*nvml : nullptr));
        info["devices"].push_back(std::move(device));
    }
    return channel.send(info);
}

}  // namespace memplate::gpu
