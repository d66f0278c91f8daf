// SPDX-License-Identifier: Apache-2.0
//
// Traces as JSON lines, in the shape of bpftrace's: {"type":…,"data":{…}}. Recordings are the same
// lines in a file.
#pragma once

#include <cstdio>
#include <map>
#include <string>

#include "trace/histogram.h"
#include "trace/session.h"
#include "util/json.h"

namespace memplate::trace {

/// {"type":"attached_probes","data":{"methods":[{"what":…,"backend":…,"accuracy":…}]}}
[[nodiscard]] Json methods_line(const std::vector<ProbeMethod>& methods);
/// {"type":"phase","data":{"time_ns":…,"ms":…,"phase":…,"detail":…,"container":{…}}}: ms since the
/// birth of the container.
[[nodiscard]] Json phase_line(const Life& life, const Phase& phase);
/// {"type":"level","data":{"time_ns":…,"bytes":…,"peak_bytes":…,…,"container":{…}}}
[[nodiscard]] Json level_line(const Life& life);
/// {"type":"map","time_ns":…,"data":{"@memory":{"web":{…}}}}
[[nodiscard]] Json memory_line(const Snapshot& snapshot);
/// {"type":"map","time_ns":…,"data":{"@faults":{"web,major,file,vda,read":12}}}: since the start.
[[nodiscard]] Json faults_line(const Snapshot& snapshot);
/// {"type":"hist","data":{"@start_ms":{"alpine,exec":[{"min":16,"max":32,"count":3}]}}}
[[nodiscard]] Json histograms_line(const std::map<std::string, Histogram>& histograms);
/// {"type":"lost_events","data":{"events":0}}
[[nodiscard]] Json lost_line(uint64_t events);

[[nodiscard]] Json container_json(const Life& life);
/// What a table of all shows of one: memory as in memory_line(), times since birth.
[[nodiscard]] Json memory_json(const Life& life);
/// A key for each life that occurs only once.
[[nodiscard]] std::string unique_key(const Json& object, const std::string& wanted,
                                     const Life& life);

/// A line, at once.
void print_line(const Json& line, FILE* file = stdout);

}  // namespace memplate::trace
