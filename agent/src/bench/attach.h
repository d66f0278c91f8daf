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

/// Which pages the module delivers at attach; the others come at the first touch.
struct AttachPages {
    std::string name;          ///< what follows "attached" in the names of variants
    double part = 1.0;         ///< of all pages
    bool working_set = false;  ///< measured twice: in pieces all over the memory, and in one
};
/// "eager", "lazy" or "profile:PART" with PART above 0 and up to 1 (usage).
[[nodiscard]] Result<AttachPages> parse_attach_pages(const std::string& text);

struct AttachRequest {
    std::vector<uint64_t> sizes;  ///< bytes, multiples of 1 MiB
    std::vector<AttachPages> pages;
    unsigned runs = 20;
    bool instructions = false;  ///< the clock counts instructions: scripts/vm --icount
    std::string command;        ///< how to repeat it
};

/// {"schema", "generated", "command", "unit": "ns" or "instructions", "environment", "runs":
/// [{"variant", "size_mb", "attach", "read_all", "cow_1_16", "fork", "exit"}], "skipped": {VARIANT:
/// why}}. There is one run per variant and size, its size in MiB; each measure is {UNIT: median,
/// "p99", "min", "mean", "max", "n", "samples"}.
[[nodiscard]] Result<Json> bench_attach(const Context& context, const AttachRequest& request);

/// The report as tables, with the ratio of what each variant's attach and first read cost to those
/// of `copy`.
[[nodiscard]] std::string attach_report_text(const Json& report, bool colour);

}  // namespace memplate::bench
