// SPDX-License-Identifier: Apache-2.0
//
// Numbers and names as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "util/result.h"

namespace memplate {

/// "4G", "256M", "256MiB", "4096" → bytes. K, M, G, T are powers of 1024. Refuses signs, fractions,
/// overflow and trailing text (kind usage).
[[nodiscard]] Result<uint64_t> parse_size(std::string_view text);
/// 1536 → "1.5 KiB"; three significant digits at most.
[[nodiscard]] std::string format_size(uint64_t bytes);
/// 0.4 → "0.40 ms", 12.34 → "12.3 ms", 12340 → "12.3 s".
[[nodiscard]] std::string format_milliseconds(double ms);
/// Template, pool and function names: 1-63 of [a-z0-9._-], first one a letter or digit (usage).
[[nodiscard]] Result<> check_name(std::string_view what, std::string_view name);
/// Splits at `separator`, keeping empty fields.
[[nodiscard]] std::vector<std::string> split(std::string_view text, char separator);
[[nodiscard]] std::string_view trim(std::string_view text);
/// Whole-string unsigned decimal; nullopt-like failure (kind failed) on anything else.
[[nodiscard]] Result<uint64_t> parse_unsigned(std::string_view text);
/// Lower-case hexadecimal of random bytes from getrandom(2).
[[nodiscard]] std::string random_hex(size_t bytes);

}  // namespace memplate
