// SPDX-License-Identifier: Apache-2.0
#include "util/text.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace memplate {
namespace {

/// Shifts of the binary prefixes; no prefix is 0.
Result<unsigned> size_shift(std::string_view suffix) {
    if (suffix.empty()) return 0u;
    constexpr std::string_view prefixes = "KMGT";
    const char letter =
        suffix.front() >= 'a' ? static_cast<char>(suffix.front() - 'a' + 'A') : suffix.front();
    const size_t index = prefixes.find(letter);
    const std::string_view rest = suffix.substr(1);
    if (index == std::string_view::npos || (!rest.empty() && rest != "iB"))
        return fail(ErrorKind::usage, "unknown suffix");
    return static_cast<unsigned>(index + 1) * 10;
}

/// Three significant digits, two decimals at most.
std::string three_digits(double value) {
    if (value < 9.995) return fmt::format("{:.2f}", value);
    if (value < 99.95) return fmt::format("{:.1f}", value);
    return fmt::format("{:.0f}", value);
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
    const auto refuse = [text] {
        return fail(ErrorKind::usage,
                    fmt::format("{:?} is not a size; write bytes or a whole number with K, M, G or "
                                "T, as in 256M",
                                text));
    };
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc()) return refuse();
    const auto shift = size_shift(text.substr(static_cast<size_t>(end - text.data())));
    if (!shift || number > (UINT64_MAX >> *shift)) return refuse();
    return number << *shift;
}

std::string format_size(uint64_t bytes) {
    constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    auto value = static_cast<double>(bytes);
    size_t unit = 0;
    // Four digits would be needed from here on: go to the next unit.
    while (value >= 999.5) {
        value /= 1024;
        unit++;
    }
    return fmt::format("{:.3g} {}", value, units[unit]);
}

std::string format_milliseconds(double ms) {
    if (!std::isfinite(ms)) return "-";
    if (ms < 0) return "-" + format_milliseconds(-ms);
    if (ms < 999.5) return three_digits(ms) + " ms";
    return three_digits(ms / 1000) + " s";
}

Result<> check_name(std::string_view what, std::string_view name) {
    const auto alphanumeric = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    };
    const auto allowed = [&](char c) {
        return alphanumeric(c) || c == '.' || c == '_' || c == '-';
    };
    if (!name.empty() && name.size() <= 63 && alphanumeric(name.front()) &&
        std::ranges::all_of(name, allowed))
        return {};
    return fail(ErrorKind::usage,
                fmt::format("{} {:?}: not a name; use 1 to 63 of a-z, 0-9, '.', '_' and '-', with "
                            "a letter or digit first",
                            what, name));
}

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> fields;
    for (;;) {
        const size_t at = text.find(separator);
        fields.emplace_back(text.substr(0, at));
        if (at == std::string_view::npos) return fields;
        text.remove_prefix(at + 1);
    }
}

std::string_view trim(std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n\v\f";
    const size_t first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

Result<uint64_t> parse_unsigned(std::string_view text) {
    uint64_t number = 0;
    const char* last = text.data() + text.size();
    // NOLINTNEXTLINE(bugprone-suspicious-stringview-data-usage): `last` is the size
    const auto [end, error] = std::from_chars(text.data(), last, number);
    if (error != std::errc() || end != last)
        return fail(fmt::format("{:?} is not an unsigned number", text));
    return number;
}

std::string random_hex(size_t bytes) {
    std::string text;
    text.reserve(bytes * 2);
    std::array<unsigned char, 64> buffer;
    while (bytes > 0) {
        const ssize_t n = ::getrandom(buffer.data(), std::min(bytes, buffer.size()), 0);
        // Only EINTR is possible; a name that can be guessed would be worse than an end.
        if (n < 0 && errno != EINTR) std::abort();
        for (ssize_t i = 0; i < n; i++)
            text += fmt::format("{:02x}", buffer[static_cast<size_t>(i)]);
        if (n > 0) bytes -= static_cast<size_t>(n);
    }
    return text;
}

}  // namespace memplate
