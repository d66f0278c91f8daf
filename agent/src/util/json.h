// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

namespace memplate {

/// Keys keep the order in which they were written: output is stable.
using Json = nlohmann::ordered_json;

}  // namespace memplate
