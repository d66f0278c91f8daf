// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace memplate::gpu {

/// Three digits and a unit: 850 → "850 ns", 12345 → "12.3 µs", 1.5e9 → "1.50 s".
[[nodiscard]] std::string time_text(double ns);

}  // namespace memplate::gpu
