// SPDX-License-Identifier: Apache-2.0
#include "gpu/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "gpu/cuda_api.h"
#include "util/fs.h"
#include "util/proc.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

/// Memory of its own, not that of files.
uint64_t resident_bytes(pid_t pid) {
    uint64_t bytes = 0;
    const auto text = read_file(fmt::format("/proc/{}/status", pid));
    if (!text) return 0;
    for (const std::string& line : split(*text, '\n')) {
        if (!line.starts_with("RssAnon:") && !line.starts_with("RssShmem:")) continue;
        const auto words = split(trim(line.substr(line.find(':') + 1)), ' ');
        bytes += parse_unsigned(words.front()).value_or(0) * 1024;
    }
    return bytes;
}

uint64_t difference(uint64_t a, uint64_t b) {
    return a > b ? a - b : b - a;
}

/// What the process has on each device when it is not checkpointed, and the same by what changed on
/// the device where NVML does not know the process (it lists pids of its own namespace).
std::vector<DeviceNeed> devices_of(const ProcessUse& active, const ProcessUse& parked) {
    std::vector<DeviceNeed> needs;
    const bool listed = std::ranges::any_of(
        active.devices, [](const DeviceUse& device) { return device.own.has_value(); });
    for (size_t i = 0; i < active.devices.size() && i < parked.devices.size(); ++i) {
        const DeviceUse& device = active.devices[i];
        const uint64_t bytes =
            listed ? device.own.value_or(0)
                   : parked.devices[i].free - std::min(parked.devices[i].free, device.free);
        if (bytes > 0) needs.push_back({device.uuid, bytes});
    }
    return needs;
}

uint64_t sum(const std::vector<DeviceNeed>& needs) {
    uint64_t bytes = 0;
    for (const DeviceNeed& need : needs) bytes += need.bytes;
    return bytes;
}

/// With the pid it names a process uniquely; 0: there is no such process.
uint64_t start_time(pid_t pid) {
    const auto proc = proc::open_host();
    if (!proc) return 0;
    const auto stat = proc::stat(proc->get(), pid);
    return stat ? stat->start_time : 0;
}

/// What has become of the process after a failure, and back to running if that needs no more than
/// an unlock. By a worker of its own: ours may hang, and interrupted or not it must be done.
std::string settle(const Context& context, pid_t pid) {
    Context undisturbed = context;
    undisturbed.stop = {};
    auto checkpointer = Checkpointer::start(undisturbed, std::chrono::seconds(10));
    if (!checkpointer) return "its state could not be told: " + checkpointer.error().message;
    auto use = checkpointer->inspect(pid);
    if (!use) return "its state could not be told: " + use.error().message;
    if (use->state == ProcessState::locked) {
        if (const auto unlocked = checkpointer->unlock(pid); !unlocked)
            return fmt::format("it is locked and could not be unlocked: {}",
                               unlocked.error().message);
        return "it was unlocked and runs on";
    }
    if (use->state == ProcessState::running) return "it runs on";
    if (use->state == ProcessState::checkpointed)
        return fmt::format("it is checkpointed; memplate gpu restore {} brings it back", pid);
    if (use->state == ProcessState::failed)
        return "its state on the GPU is lost: end it and start it again";
    return start_time(pid) != 0 ? "the driver does not tell its state" : "it is gone";
}

Failure settled(const Context& context, pid_t pid, const CheckpointOptions& options, Error error) {
    error.message = fmt::format("process {}: {}", pid, error.message);
    if (options.standalone) error.message += "; " + settle(context, pid);
    return Failure(std::move(error));
}

Result<ProcessState> state_of(const ProcessUse& use, pid_t pid) {
    if (!use.state)
        return fail(fmt::format(
            "process {}: the driver knows no such process that uses CUDA; is it initialised yet?",
            pid));
    if (*use.state == ProcessState::failed)
        return fail(fmt::format(
            "process {}: its state on the GPU is lost since an earlier checkpoint or restore "
            "failed; end it and start it again",
            pid));
    return *use.state;
}

/// Obstacles are the error, or warnings if forced.
Result<> judge(pid_t pid, const std::vector<std::string>& obstacles, const char* why_not,
               ErrorKind kind, bool force, std::vector<std::string>& warnings) {
    if (obstacles.empty()) return {};
    if (!force)
        return fail(kind,
                    fmt::format("process {}: {}{}", pid, fmt::join(obstacles, "; "), why_not));
    warnings.insert(warnings.end(), obstacles.begin(), obstacles.end());
    return {};
}

std::string notes_directory(const Context& context) {
    return context.settings.state_dir + "/gpu";
}

std::string note_of(const Context& context, pid_t pid) {
    return fmt::format("{}/{}.json", notes_directory(context), pid);
}

}  // namespace

double CheckpointStep::gb_per_s() const {
    return ms > 0 ? static_cast<double>(device_bytes) / ms / 1e6 : 0;
}

Result<CheckpointReport> checkpoint_process(const Context& context, Checkpointer& checkpointer,
                                            pid_t pid, const CheckpointOptions& options) {
    CheckpointReport report;
    TRY_ASSIGN(const ProcessUse active, checkpointer.inspect(pid));
    TRY_ASSIGN(report.before, state_of(active, pid));
    if (report.before == ProcessState::checkpointed)
        return fail(fmt::format("process {}: it is checkpointed already", pid));

    TRY_ASSIGN(const UniqueFd proc, proc::open_host());
    CheckpointFacts facts;
    facts.use = active;
    facts.driver_version = checkpointer.driver_version();
    TRY_ASSIGN(facts.memory, read_process_memory(proc.get(), pid));
    TRY_ASSIGN(facts.host_available, host_memory_available(proc.get(), pid));
    TRY(judge(pid, checkpoint_obstacles(facts), "; nothing was changed (--force tries it anyway)",
              ErrorKind::unsupported, options.force, report.warnings));

    // Before anything is touched: the driver may finish what we do not see the end of.
    if (options.standalone) TRY(keep_needs(context, pid, devices_of(active, active)));
    if (report.before == ProcessState::running) {
        auto locked = checkpointer.lock(pid, options.lock_timeout);
        if (!locked) {
            const std::string limit =
                locked.error().code == cuda_not_ready
                    ? fmt::format(" within {} ms", options.lock_timeout.count())
                    : "";
            return settled(context, pid, options,
                           std::move(locked.error()).context("it could not be locked" + limit));
        }
        report.steps.push_back({.name = "lock", .ms = *locked});
    }
    const uint64_t resident = resident_bytes(pid);
    auto parked = checkpointer.checkpoint(pid);
    if (!parked) return settled(context, pid, options, std::move(parked.error()));
    CheckpointStep step{.name = "checkpoint",
                        .ms = *parked,
                        .host_bytes = difference(resident_bytes(pid), resident)};
    const auto after = checkpointer.inspect(pid);
    if (!after) return settled(context, pid, options, Error(after.error()));
    report.after = after->state.value_or(ProcessState::failed);
    if (report.after != ProcessState::checkpointed)
        return settled(context, pid, options,
                       fail("the driver called its checkpoint successful, and it is none").error());
    report.devices = devices_of(active, *after);
    step.device_bytes = sum(report.devices);
    report.steps.push_back(std::move(step));
    if (options.standalone) {
        if (auto kept = keep_needs(context, pid, report.devices); !kept)
            return settled(context, pid, options, std::move(kept.error()));
    }
    return report;
}

Result<CheckpointReport> restore_process(const Context& context, Checkpointer& checkpointer,
                                         pid_t pid,
                                         const std::optional<std::vector<DeviceNeed>>& needs,
                                         const CheckpointOptions& options) {
    CheckpointReport report;
    TRY_ASSIGN(const ProcessUse parked, checkpointer.inspect(pid));
    TRY_ASSIGN(report.before, state_of(parked, pid));
    if (report.before == ProcessState::running)
        return fail(fmt::format("process {}: it is not checkpointed", pid));
    if (report.before == ProcessState::checkpointed) {
        constexpr const char* danger =
            "; a restore that runs out of device memory would break it for good (--force tries it "
            "anyway)";
        const std::vector<std::string> obstacles =
            needs ? restore_obstacles(parked.devices, *needs)
                  : std::vector<std::string>{
                        "how much device memory it needs is not known: memplate has not "
                        "checkpointed it, or NVML did not tell"};
        TRY(judge(pid, obstacles, danger, ErrorKind::failed, options.force, report.warnings));
        const uint64_t resident = resident_bytes(pid);
        auto restored = checkpointer.restore(pid);
        if (!restored) return settled(context, pid, options, std::move(restored.error()));
        CheckpointStep step{.name = "restore",
                            .ms = *restored,
                            .host_bytes = difference(resident_bytes(pid), resident)};
        if (options.standalone) {
            const auto active = checkpointer.inspect(pid);
            if (!active) return settled(context, pid, options, Error(active.error()));
            report.devices = devices_of(*active, parked);
        } else if (needs) {
            report.devices = *needs;  // it may be waited for: no more questions than necessary
        }
        step.device_bytes = sum(report.devices);
        report.steps.push_back(std::move(step));
    }
    auto unlocked = checkpointer.unlock(pid);
    if (!unlocked) return settled(context, pid, options, std::move(unlocked.error()));
    report.steps.push_back({.name = "unlock", .ms = *unlocked});
    report.after = ProcessState::running;
    if (options.standalone) forget_needs(context, pid);
    return report;
}

Json to_json(const CheckpointReport& report) {
    Json json{{"before", name_of(report.before)},
              {"after", name_of(report.after)},
              {"ms", 0.0},
              {"steps", Json::array()},
              {"devices", Json::array()},
              {"warnings", report.warnings}};
    double total = 0;
    for (const CheckpointStep& step : report.steps) {
        total += step.ms;
        json["steps"].push_back({{"name", step.name},
                                 {"ms", step.ms},
                                 {"device_bytes", step.device_bytes},
                                 {"host_bytes", step.host_bytes},
                                 {"gb_per_s", step.gb_per_s()}});
    }
    json["ms"] = total;
    for (const DeviceNeed& device : report.devices)
        json["devices"].push_back({{"uuid", device.uuid}, {"bytes", device.bytes}});
    return json;
}

std::string report_text(const CheckpointReport& report, bool colour) {
    Table table({{"STEP"},
                 {"TIME", Table::Align::right},
                 {"DEVICE", Table::Align::right},
                 {"HOST", Table::Align::right},
                 {"GB/S", Table::Align::right}});
    double total = 0;
    for (const CheckpointStep& step : report.steps) {
        total += step.ms;
        const bool moves = step.device_bytes > 0;
        table.add({step.name, format_milliseconds(step.ms),
                   moves ? format_size(step.device_bytes) : "-",
                   moves ? format_size(step.host_bytes) : "-",
                   moves ? fmt::format("{:.2f}", step.gb_per_s()) : "-"});
    }
    table.add({"all", format_milliseconds(total), "", "", ""});
    return table.render(colour);
}

Result<> keep_needs(const Context& context, pid_t pid, const std::vector<DeviceNeed>& needs) {
    TRY(make_directories(notes_directory(context), 0700));
    TRY_ASSIGN(const auto names, list_directory(AT_FDCWD, notes_directory(context)));
    for (const std::string& name : names) {
        const auto other = parse_unsigned(name.substr(0, name.find('.')));
        if (other && start_time(static_cast<pid_t>(*other)) == 0)
            forget_needs(context, static_cast<pid_t>(*other));
    }
    Json note{{"start_time", start_time(pid)}, {"devices", Json::array()}};
    for (const DeviceNeed& need : needs)
        note["devices"].push_back({{"uuid", need.uuid}, {"bytes", need.bytes}});
    return write_file_atomic(AT_FDCWD, note_of(context, pid), note.dump() + "\n", 0600);
}

std::optional<std::vector<DeviceNeed>> kept_needs(const Context& context, pid_t pid) {
    const auto text = read_file(note_of(context, pid));
    if (!text) return std::nullopt;
    const Json note = Json::parse(*text, nullptr, false);
    if (!note.is_object() || note.value("start_time", uint64_t{0}) != start_time(pid))
        return std::nullopt;
    std::vector<DeviceNeed> needs;
    for (const Json& device : note.value("devices", Json::array()))
        needs.push_back({device.value("uuid", ""), device.value("bytes", uint64_t{0})});
    if (needs.empty()) return std::nullopt;  // NVML did not tell
    return needs;
}

void forget_needs(const Context& context, pid_t pid) {
    ::unlink(note_of(context, pid).c_str());
}

}  // namespace memplate::gpu
