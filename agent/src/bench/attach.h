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

/// Which pages are there before the process runs: all, none, or the given part of them (then the
/// rest comes at the first touch).
struct PageMode {
    std::string text = "eager";
    double eager = 1.0;
};
/// "eager", "lazy" or "profile:0.1" (kind usage).
[[nodiscard]] Result<PageMode> parse_page_mode(const std::string& text);

struct AttachRequest {
    std::vector<uint64_t> sizes;  ///< bytes
    PageMode pages;
    unsigned runs = 20;
    bool instructions = false;  ///< the clock counts instructions: scripts/vm --icount
    std::string command;        ///< how to repeat it
};

/// {"schema", "generated", "command", "environment", "pages", "runs": [{"variant", "size_mb",
/// "attach", "read_all", "cow_1_16", "fork", "exit"}], "skipped": {VARIANT: why}}; each measure is
/// {"ns" or "instructions": median, "p99", "min", "n"}. size_mb counts MiB.
[[nodiscard]] Result<Json> bench_attach(const Context& context, const AttachRequest& request);

}  // namespace memplate::bench
