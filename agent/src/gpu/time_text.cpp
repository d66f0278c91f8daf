// SPDX-License-Identifier: Apache-2.0
#include "gpu/time_text.h"

#include <fmt/format.h>

namespace memplate::gpu {

std::string time_text(double ns) {
    const char* unit = "ns";
    double value = ns;
    for (const char* larger : {"µs", "ms", "s"}) {
        if (value < 999.5) break;
        value /= 1000;
        unit = larger;
    }
    // Nothing is measured more finely than a nanosecond.
    const int digits = unit[0] == 'n' || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    return fmt::format("{:.{}f} {}", value, digits, unit);
}

}  // namespace memplate::gpu
