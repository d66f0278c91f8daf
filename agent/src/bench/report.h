// SPDX-License-Identifier: Apache-2.0
//
// What `memplate bench restore` found out, for people: a web page and terminal tables. A report is
// a JSON document (schema 1); any method or field of it may be missing and is then left out.
#pragma once

#include <string>

#include "util/json.h"

namespace memplate {

/// One self-contained HTML page: styles, script and the report itself are inside, nothing is
/// fetched. Text of the report can never become markup.
[[nodiscard]] std::string render_report_html(const Json& report);

/// The headline, then times, memory and ratios to `copy` of each function as tables of at most 100
/// columns; a line on the answers last, in red if any was wrong and `colour`.
[[nodiscard]] std::string report_summary_text(const Json& report, bool colour);

/// One sentence on the largest template that was measured with a method of ours: "big-state: first
/// answer in 6.9 ms instead of 131 ms, 10 instances in 24 MB instead of 2,086 MB".
[[nodiscard]] std::string report_headline(const Json& report);

}  // namespace memplate
