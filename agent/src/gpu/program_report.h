// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gpu/cold_start.h"
#include "gpu/program_timeline.h"

namespace memplate::gpu {

/// Runs a command so many times, one after the other, and puts its time lines together.
///
/// {"schema", "verb", "generated", "command", "runs", "device", "gpu": info.h, "method":
/// {"backend", "accuracy", "reason"}, "total_ms", "activities": {NAME: ms}, "labels":
/// {"context_initialization_ms", "tensor_allocation_ms", "model_load_ms"} (all statistics.h's, of
/// the starts that have them), "typical": index of the start with the median total, "starts":
/// [{"total_ms", "sum_ms" (of the activities), "failure", "cut", "lost", "processes",
/// "activities": {NAME: ms}, "driver": {PURPOSE: ms}, "milestones": [{"name", "ms"}], "calls":
/// [{"name", "purpose", "count", "failed", "first_error", "unfinished", "total_ms", "first_ms",
/// "longest_ms", "bytes"}], "gaps": [{"at_ms", "ms", "after", "before", "parts": {ACTIVITY: ms},
/// "files", "code_files", "bytes_read", "largest"}], "labels", "launches": {"kernels", "first_ms",
/// "later", "later_ms"}, "copies": {"bytes", "ms"}, "lanes": {ACTIVITY or PURPOSE: [[begin_ms,
/// end_ms]]}}]}
[[nodiscard]] Result<Json> measure_program(const Context& context, ProgramOptions program,
                                           unsigned runs, const InfoOptions& info);

[[nodiscard]] Json start_json(const ProgramTrace& trace);

[[nodiscard]] std::string program_text(const Json& report, StatisticsRule rule, bool colour);
/// Lines as the StreamBox experiments write them, of every start.
[[nodiscard]] std::string program_labels(const Json& report);
[[nodiscard]] std::string program_html(const Json& report);

}  // namespace memplate::gpu
