// SPDX-License-Identifier: Apache-2.0
//
// `memplate bench attach`: what it costs to give a process the pages of a template, and what the
// process pays afterwards, by the module and by what the kernel offers without it.
#pragma once

#include <string>
#include <vector>

#include "util/context.h"
#include "util/json.h"

namespace memplate::bench {

struct AttachRequest {
    std::vector<uint64_t> sizes;  ///< bytes, multiples of 1 MiB
    unsigned runs = 20;
    bool instructions = false;  ///< the clock counts instructions: scripts/vm --icount
    std::string command;        ///< how to repeat it
};

/// {"schema", "generated", "command", "unit": "ns" or "instructions", "environment", "sizes":
/// [{"bytes", "variants": {VARIANT: {"attach", "read_all", "cow_1_16", "fork", "exit"}}}],
/// "skipped": {VARIANT: why}}; each measure is a summary of its samples in `unit`.
[[nodiscard]] Result<Json> bench_attach(const Context& context, const AttachRequest& request);

/// The report as tables, with the ratio of what each variant's attach and first read cost to those
/// of `copy`.
[[nodiscard]] std::string attach_report_text(const Json& report, bool colour);

}  // namespace memplate::bench
