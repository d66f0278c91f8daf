// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cost/page.h"
#include "trace/recording.h"

namespace memplate::cli {

/// Memory over time of each container, with the phases of its start.
[[nodiscard]] cost::Page trace_page(const trace::CurveCollector& collector);

}  // namespace memplate::cli
