// SPDX-License-Identifier: Apache-2.0
#include "trace/lines.h"

#include "trace/device.h"

namespace memplate::trace {

Json methods_line(const std::vector<ProbeMethod>& methods) {
    Json list = Json::array();
    for (const ProbeMethod& method : methods)
        list.push_back(
            {{"what", method.what}, {"backend", method.backend}, {"accuracy", method.accuracy}});
    return {{"type", "attached_probes"}, {"data", {{"methods", std::move(list)}}}};
}

Json container_json(const Life& life) {
    const Member& member = *life.member;
    const Container& container = member.container;
    Json json = {{"name", member.name()}, {"engine", container.engine}};
    if (!container.id.empty()) json["id"] = container.id;
    if (!container.image.empty()) json["image"] = container.image;
    json["cgroup"] = container.cgroup;
    json["cgroup_id"] = member.cgroup;
    if (life.born_ns != 0) json["born_ns"] = life.born_ns;
    return json;
}

Json phase_line(const Life& life, const Phase& phase) {
    Json data = {{"time_ns", phase.time_ns},
                 {"ms", life.milliseconds(phase)},
                 {"phase", phase.name},
                 {"detail", phase.detail}};
    if (phase.time_ns == life.entered_ns && life.peak_at_entry)
        data["peak_bytes"] = *life.peak_at_entry;
    if (phase.name == "ended") data.update(memory_json(life));
    data["container"] = container_json(life);
    return {{"type", "phase"}, {"data", std::move(data)}};
}

Json memory_json(const Life& life) {
    const MemoryState& memory = life.memory;
    Json json = {{"bytes", memory.bytes},
                 {"peak_bytes", memory.peak},
                 {"inactive_file_bytes", memory.inactive_file},
                 {"docker_stats_bytes", memory.without_inactive_file()}};
    if (const auto peak = life.peak_since_entry()) {
        json["peak_since_exec_bytes"] = peak->bytes;
        json["peak_since_exec_exact"] = peak->exact;
    }
    return json;
}

Json level_line(const Life& life) {
    Json data = {{"time_ns", life.memory.time_ns}};
    data.update(memory_json(life));
    data["container"] = container_json(life);
    return {{"type", "level"}, {"data", std::move(data)}};
}

std::string unique_key(const Json& object, const std::string& wanted, const Life& life) {
    if (!object.contains(wanted)) return wanted;
    return fmt::format("{} ({})", wanted, life.member->cgroup);
}

Json memory_line(const Snapshot& snapshot) {
    Json map = Json::object();
    for (const auto& life : snapshot.lives) {
        Json one = memory_json(*life);
        one["cgroup_id"] = life->member->cgroup;
        map[unique_key(map, life->member->name(), *life)] = std::move(one);
    }
    return {
        {"type", "map"}, {"time_ns", snapshot.time_ns}, {"data", {{"@memory", std::move(map)}}}};
}

Json faults_line(const Snapshot& snapshot) {
    Json map = Json::object();
    for (const LifeFaults& one : snapshot.faults) {
        const FaultCount& count = one.count;
        const std::string key =
            fmt::format("{},{},{},{},{}", one.life->member->name(), name_of(count.kind),
                        name_of(count.backing), device_name(count), count.write ? "write" : "read");
        map[unique_key(map, key, *one.life)] = count.count;
    }
    return {
        {"type", "map"}, {"time_ns", snapshot.time_ns}, {"data", {{"@faults", std::move(map)}}}};
}

Json histograms_line(const std::map<std::string, Histogram>& histograms) {
    Json map = Json::object();
    for (const auto& [key, histogram] : histograms) map[key] = histogram.to_json();
    return {{"type", "hist"}, {"data", {{"@start_ms", std::move(map)}}}};
}

Json lost_line(uint64_t events) {
    return {{"type", "lost_events"}, {"data", {{"events", events}}}};
}

void print_line(const Json& line, FILE* file) {
    // Names of processes and files may be no UTF-8.
    fmt::print(file, "{}\n", line.dump(-1, ' ', false, Json::error_handler_t::replace));
    (void)std::fflush(file);  // an error stays in the stream, and is told at the end
}

}  // namespace memplate::trace
