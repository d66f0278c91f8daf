// SPDX-License-Identifier: Apache-2.0
#include "gpu/checkpoint_obstacles.h"

#include <algorithm>

#include "util/fs.h"
#include "util/memory_cgroup.h"
#include "util/proc.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

/// A context maps 2 MiB a device of the UVM driver for itself.
constexpr uint64_t ordinary_managed_bytes = 32 << 20;
/// The first driver that checkpoints memory shared by IPC.
constexpr int driver_with_shared_memory = 610;

int major_version(const std::string& driver) {
    return std::atoi(driver.c_str());
}

/// The memory cgroup of a process as /proc/PID/cgroup names it; empty: none.
std::string cgroup_path(const std::string& text, bool unified) {
    for (const std::string& line : split(text, '\n')) {
        const size_t first = line.find(':');
        const size_t second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const auto controllers = split(line.substr(first + 1, second - first - 1), ',');
        const bool wanted = unified ? line.starts_with("0::")
                                    : std::ranges::find(controllers, "memory") != controllers.end();
        if (wanted) return line.substr(second + 1);
    }
    return {};
}

/// What one cgroup leaves; nothing if it has no limit.
std::optional<uint64_t> left_in(const CgroupHierarchy& hierarchy, const std::string& path) {
    const auto group = MemoryCgroup::open(hierarchy, path);
    if (!group) return std::nullopt;
    const auto limit = group->limit();
    const auto current = group->current();
    if (!limit || !*limit || !current) return std::nullopt;
    const uint64_t used = *current - std::min(*current, group->inactive_file().value_or(0));
    return **limit - std::min(**limit, used);
}

/// The least that its cgroup and those above it leave; nothing if none has a limit.
std::optional<uint64_t> left_by_cgroup(int proc, pid_t pid) {
    const auto hierarchy = CgroupHierarchy::find();
    const auto text = read_file_at(proc, fmt::format("{}/cgroup", pid));
    if (!hierarchy || !text) return std::nullopt;
    std::optional<uint64_t> least;
    for (std::string path = cgroup_path(*text, hierarchy->unified); path.size() > 1;
         path.resize(path.rfind('/'))) {
        const auto left = left_in(*hierarchy, path);
        if (left) least = std::min(*left, least.value_or(*left));
    }
    return least;
}

}  // namespace

Result<ProcessMemory> read_process_memory(int proc, pid_t pid) {
    TRY_ASSIGN(const auto mappings, proc::mappings(proc, pid));
    ProcessMemory memory;
    for (const auto& mapping : mappings) {
        if (mapping.path.starts_with("/dev/nvidia-uvm"))
            memory.managed_bytes += mapping.end - mapping.start;
        memory.shares = memory.shares || mapping.path.starts_with("/dev/shm/cuda.shm.");
    }
    return memory;
}

Result<uint64_t> host_memory_available(int proc, pid_t pid) {
    TRY_ASSIGN(const std::string text, read_file_at(proc, "meminfo"));
    constexpr std::string_view key = "MemAvailable:";
    const size_t at = text.find(key);
    if (at == std::string::npos) return fail("/proc/meminfo has no MemAvailable");
    const auto words = split(trim(text.substr(at + key.size(), 64)), ' ');
    TRY_ASSIGN(const uint64_t kilobytes, parse_unsigned(words.front()));
    const uint64_t available = kilobytes * 1024;
    const auto left = left_by_cgroup(proc, pid);
    return left ? std::min(available, *left) : available;
}

std::vector<std::string> checkpoint_obstacles(const CheckpointFacts& facts) {
    std::vector<std::string> reasons;
    uint64_t bytes = 0;
    for (const DeviceUse& device : facts.use.devices) {
        bytes += device.own.value_or(0);
        // Where NVML does not know the process it may be on any of them.
        if (device.mig && (device.own || facts.use.devices.size() == 1))
            reasons.push_back(
                fmt::format("{} ({}) is divided by MIG, where processes cannot be checkpointed",
                            device.uuid, device.name));
        if (device.mps)
            reasons.emplace_back(
                "it is a client of an MPS server, and those cannot be checkpointed");
    }
    if (facts.memory.managed_bytes > ordinary_managed_bytes)
        reasons.push_back(
            fmt::format("it uses managed memory (UVM, {}), which cannot be checkpointed",
                        format_size(facts.memory.managed_bytes)));
    if (facts.memory.shares && major_version(facts.driver_version) < driver_with_shared_memory)
        reasons.push_back(
            fmt::format("it shares memory by CUDA IPC, which driver {} cannot checkpoint; {} can",
                        facts.driver_version, driver_with_shared_memory));
    if (bytes > facts.host_available)
        reasons.push_back(fmt::format(
            "its {} of device memory do not fit in the host's memory: {} are available to it",
            format_size(bytes), format_size(facts.host_available)));
    return reasons;
}

std::vector<std::string> restore_obstacles(const std::vector<DeviceUse>& devices,
                                           const std::vector<DeviceNeed>& needs, uint64_t count) {
    std::vector<std::string> reasons;
    for (const DeviceNeed& need : needs) {
        const auto device = std::ranges::find(devices, need.uuid, &DeviceUse::uuid);
        if (device == devices.end())
            reasons.push_back(
                fmt::format("it was checkpointed on {}, which is not here", need.uuid));
        else if (device->known && device->free / count < need.bytes)
            reasons.push_back(fmt::format("{} of device memory are needed on {} and {} are free",
                                          format_size(need.bytes * count), need.uuid,
                                          format_size(device->free)));
    }
    return reasons;
}

}  // namespace memplate::gpu
