// SPDX-License-Identifier: Apache-2.0
#include "instance/gpu.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "util/fs.h"
#include "util/proc.h"

namespace memplate::instance {
namespace {

/// What CUDA's driver consists of, in the folder of libcuda.so.1.
constexpr std::array<std::string_view, 6> driver_libraries = {
    "libcuda.so",     "libcudadebugger.so", "libnvidia-ml.so", "libnvidia-ptxjitcompiler.so",
    "libnvidia-nvvm", "libnvidia-gpucomp",
};

bool uses_driver(int proc, pid_t pid) {
    const auto mappings = proc::mappings(proc, pid);
    return mappings && std::ranges::any_of(*mappings, [](const auto& mapping) {
               return mapping.path.find("/libcuda.so") != std::string::npos;
           });
}

constexpr gpu::CheckpointOptions options{.standalone = false};

std::vector<gpu::DeviceNeed> needs_of(const proto::GpuProcess& process) {
    std::vector<gpu::DeviceNeed> needs;
    for (const auto& need : process.needs()) needs.push_back({need.uuid(), need.bytes()});
    return needs;
}

Result<> check_driver(const proto::GpuState& state, const gpu::Checkpointer& checkpointer) {
    if (state.driver() == checkpointer.driver_version()) return {};
    return fail(
        ErrorKind::unsupported,
        fmt::format("its GPU state is that of driver {}, and here is {}; build the template "
                    "again",
                    state.driver(), checkpointer.driver_version()));
}

}  // namespace

Result<std::vector<sandbox::Bind>> gpu_binds(const std::string& driver_library) {
    std::vector<sandbox::Bind> binds;
    TRY_ASSIGN(const auto devices, list_directory(AT_FDCWD, "/dev"));
    for (const std::string& name : devices) {
        const std::string path = "/dev/" + name;
        struct stat status{};
        // The driver of displays is none of CUDA's.
        if (name.starts_with("nvidia") && name != "nvidia-modeset" &&
            ::stat(path.c_str(), &status) == 0 && S_ISCHR(status.st_mode))
            binds.push_back({path, path, true, true});
    }
    const std::string folder = driver_library.substr(0, driver_library.rfind('/'));
    TRY_ASSIGN(const auto files, list_directory(AT_FDCWD, folder));
    for (const std::string& name : files) {
        const bool wanted = std::ranges::any_of(
            driver_libraries, [&](std::string_view prefix) { return name.starts_with(prefix); });
        const std::string path = folder + "/" + name;
        // Links are followed; those that lead nowhere are none of ours.
        if (wanted && ::access(path.c_str(), R_OK) == 0)
            binds.push_back({path, fmt::format("{}/{}", driver_folder, name), false});
    }
    return binds;
}

Result<proto::GpuState> park_gpu(const Context& context, gpu::Checkpointer& checkpointer,
                                 const std::map<pid_t, pid_t>& pids) {
    proto::GpuState state;
    state.set_driver(checkpointer.driver_version());
    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    for (const auto& [inside, host] : pids) {
        if (!uses_driver(proc.get(), host)) continue;
        TRY_ASSIGN(const auto use, checkpointer.inspect(host));
        if (!use.state) continue;  // the library is loaded, and not initialised
        TRY_ASSIGN(const auto report,
                   gpu::checkpoint_process(context, checkpointer, host, options));
        auto* process = state.add_processes();
        process->set_pid(static_cast<uint32_t>(inside));
        for (const auto& device : report.devices) {
            auto* need = process->add_needs();
            need->set_uuid(device.uuid);
            need->set_bytes(device.bytes);
        }
    }
    return state;
}

Result<> check_gpu(const proto::GpuState& state, gpu::Checkpointer& checkpointer, unsigned count) {
    TRY(check_driver(state, checkpointer));
    TRY_ASSIGN(const auto here, checkpointer.inspect(::getpid()));
    std::map<std::string, uint64_t> all;
    for (const auto& process : state.processes())
        for (const auto& need : process.needs()) all[need.uuid()] += need.bytes();
    std::vector<gpu::DeviceNeed> needs;
    for (const auto& [uuid, bytes] : all) needs.push_back({uuid, bytes});
    const auto obstacles = gpu::restore_obstacles(here.devices, needs, count);
    if (obstacles.empty()) return {};
    return fail(
        fmt::format("{} instance{}: {}", count, count == 1 ? "" : "s", fmt::join(obstacles, "; ")));
}

Result<Phases> resume_gpu(const Context& context, gpu::Checkpointer& checkpointer,
                          const proto::GpuState& state, const std::map<pid_t, pid_t>& pids) {
    TRY(check_driver(state, checkpointer));
    std::map<std::string, double> ms;
    for (const auto& process : state.processes()) {
        const auto host = pids.find(static_cast<pid_t>(process.pid()));
        if (host == pids.end())
            return fail(
                fmt::format("process {} has ended before its GPU state was back", process.pid()));
        TRY_ASSIGN(const auto report, gpu::restore_process(context, checkpointer, host->second,
                                                           needs_of(process), options));
        for (const auto& step : report.steps) ms["GPU " + step.name] += step.ms;
    }
    return Phases(ms.begin(), ms.end());
}

}  // namespace memplate::instance
