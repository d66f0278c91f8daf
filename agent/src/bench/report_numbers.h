// SPDX-License-Identifier: Apache-2.0
//
// Reading a report whose fields may be missing, and writing its numbers. report_data.js does the
// same for the page; both must say the same.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "util/json.h"

namespace memplate::report {

inline constexpr const char* baseline = "copy";

/// The finite number at a path of object keys, if there is one.
[[nodiscard]] std::optional<double> number_at(const Json& value,
                                              std::initializer_list<const char*> path);
/// The text at `key` of an object, or `otherwise`.
[[nodiscard]] std::string text_at(const Json& value, const char* key, std::string otherwise = {});
/// The elements of report.functions that are objects.
[[nodiscard]] std::vector<const Json*> functions(const Json& report);
/// Names of the measured methods: the known ones from cold to warm, then others as written.
[[nodiscard]] std::vector<std::string> methods(const Json& function);
/// The fastest to the first answer of `mapped` and `attached`.
[[nodiscard]] std::optional<std::string> own_method(const Json& function);
/// A quantile, such as "p50", of one method's time, such as "ready_ms".
[[nodiscard]] std::optional<double> time_of(const Json& function, const std::string& method,
                                            const char* time, const char* quantile = "p50");
/// state: idle, after_request, after_touch; kind: pss, private. In MB.
[[nodiscard]] std::optional<double> memory_of(const Json& function, const std::string& method,
                                              const std::string& state, const std::string& kind);
/// How many instances the memory was measured with.
[[nodiscard]] int instances(const Json& function);

/// 2086.4, 0 → "2,086".
[[nodiscard]] std::string grouped(double value, int digits = 0);
/// 0.4 → "0.40", 6.93 → "6.9", 131.2 → "131".
[[nodiscard]] std::string amount(double value);
/// 6.93 → "6.9 ms", 12340 → "12.3 s".
[[nodiscard]] std::string milliseconds(double value);
/// 2.16 → "2.2 MB", 2086.4 → "2,086 MB".
[[nodiscard]] std::string megabytes(double value);
/// "17.3× faster", "1.2× slower" or "as fast"; nothing unless both are positive.
[[nodiscard]] std::optional<std::string> speed(std::optional<double> base,
                                               std::optional<double> value);
/// "1.2 %" of `base`; nothing unless `base` is positive.
[[nodiscard]] std::optional<std::string> share(std::optional<double> base,
                                               std::optional<double> value);

/// A part of the headline; our numbers are the ones to emphasise.
struct HeadlinePart {
    enum class Kind { words, our_number, other_number };
    std::string text;
    Kind kind = Kind::words;
};
struct Headline {
    std::vector<HeadlinePart> parts;
    std::optional<size_t> function;  ///< index in report.functions of the one it is about
};
[[nodiscard]] Headline headline(const Json& report);

}  // namespace memplate::report
