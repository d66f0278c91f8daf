// SPDX-License-Identifier: Apache-2.0
#include "bench/report_numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

namespace memplate::report {
namespace {

constexpr std::array<std::string_view, 6> known_methods = {"cold",   "copy",     "lazy",
                                                           "mapped", "attached", "warm"};

const Json* member(const Json& value, const char* key) {
    if (!value.is_object()) return nullptr;
    const auto found = value.find(key);
    return found == value.end() ? nullptr : &*found;
}

size_t place_of(std::string_view method) {
    return static_cast<size_t>(std::ranges::find(known_methods, method) - known_methods.begin());
}

/// The time the headline speaks of: one that our method and the baseline have, else ours alone.
struct HeadlineTime {
    const char* key;
    const char* words;
};
std::optional<HeadlineTime> headline_time(const Json& function, const std::string& ours) {
    constexpr std::array<HeadlineTime, 2> times = {
        {{"first_answer_ms", "first answer"}, {"ready_ms", "ready"}}};
    for (const HeadlineTime& time : times)
        if (time_of(function, ours, time.key) && time_of(function, baseline, time.key)) return time;
    for (const HeadlineTime& time : times)
        if (time_of(function, ours, time.key)) return time;
    return std::nullopt;
}

std::vector<HeadlinePart> sentence_on(const Json& function, const std::string& ours) {
    std::vector<HeadlinePart> parts = {{text_at(function, "name", "function") + ": "}};
    const auto instead = [&](const std::string& text, std::string number,
                             std::optional<std::string> other) {
        parts.push_back({fmt::format("{}{}", parts.size() > 1 ? ", " : "", text)});
        parts.push_back({std::move(number), HeadlinePart::Kind::our_number});
        if (!other) return;
        parts.push_back({" instead of "});
        parts.push_back({std::move(*other), HeadlinePart::Kind::other_number});
    };
    if (const auto time = headline_time(function, ours))
        instead(fmt::format("{} in ", time->words),
                milliseconds(*time_of(function, ours, time->key)),
                time_of(function, baseline, time->key).transform(milliseconds));
    if (const auto memory = memory_of(function, ours, "idle", "pss"))
        instead(fmt::format("{} instances in ", instances(function)), megabytes(*memory),
                memory_of(function, baseline, "idle", "pss").transform(megabytes));
    return parts;
}

}  // namespace

std::optional<double> number_at(const Json& value, std::initializer_list<const char*> path) {
    const Json* at = &value;
    for (const char* key : path) {
        at = member(*at, key);
        if (at == nullptr) return std::nullopt;
    }
    if (!at->is_number()) return std::nullopt;
    const double number = at->get<double>();
    return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

std::string text_at(const Json& value, const char* key, std::string otherwise) {
    const Json* text = member(value, key);
    return text != nullptr && text->is_string() ? text->get<std::string>() : std::move(otherwise);
}

std::vector<const Json*> functions(const Json& report) {
    std::vector<const Json*> result;
    const Json* all = member(report, "functions");
    if (all == nullptr || !all->is_array()) return result;
    for (const Json& function : *all)
        if (function.is_object()) result.push_back(&function);
    return result;
}

std::vector<std::string> methods(const Json& function) {
    std::vector<std::string> names;
    const Json* all = member(function, "methods");
    if (all == nullptr || !all->is_object()) return names;
    for (const auto& [name, values] : all->items())
        if (values.is_object()) names.push_back(name);
    std::ranges::stable_sort(names, {}, place_of);
    return names;
}

std::optional<std::string> own_method(const Json& function) {
    std::optional<std::string> best;
    double best_time = 0;
    for (const std::string& name : methods(function)) {
        if (name != "mapped" && name != "attached") continue;
        const double time = time_of(function, name, "first_answer_ms")
                                .or_else([&] { return time_of(function, name, "ready_ms"); })
                                .value_or(INFINITY);
        if (best && time >= best_time) continue;
        best = name;
        best_time = time;
    }
    return best;
}

std::optional<double> time_of(const Json& function, const std::string& method, const char* time,
                              const char* quantile) {
    return number_at(function, {"methods", method.c_str(), time, quantile});
}

std::optional<double> memory_of(const Json& function, const std::string& method,
                                const std::string& state, const std::string& kind) {
    const std::string key = state + "_" + kind;
    const auto value = number_at(function, {"methods", method.c_str(), "memory10_mb", key.c_str()});
    if (value || key != "idle_private") return value;
    return number_at(function, {"methods", method.c_str(), "memory10_mb", "private"});
}

int instances(const Json& function) {
    for (const std::string& name : methods(function))
        if (const auto count =
                number_at(function, {"methods", name.c_str(), "memory10_mb", "instances"}))
            return static_cast<int>(std::clamp(*count, 0.0, 1e9));
    return 10;
}

std::string grouped(double value, int digits) {
    const std::string plain = fmt::format("{:.{}f}", value, digits);
    const size_t point = std::min(plain.find('.'), plain.size());
    std::string text;
    for (size_t i = 0; i < plain.size(); i++) {
        const bool after_digit = i > 0 && plain[i - 1] != '-';
        if (after_digit && i < point && (point - i) % 3 == 0) text += ',';
        text += plain[i];
    }
    return text;
}

std::string amount(double value) {
    const double size = std::abs(value);
    return grouped(value, size < 0.995 ? 2 : size < 99.95 ? 1 : 0);
}

std::string milliseconds(double value) {
    if (std::abs(value) >= 10000) return grouped(value / 1000, 1) + " s";
    return amount(value) + " ms";
}

std::string megabytes(double value) {
    return grouped(value, std::abs(value) < 9.95 ? 1 : 0) + " MB";
}

std::optional<std::string> speed(std::optional<double> base, std::optional<double> value) {
    if (!base || !value || *base <= 0 || *value <= 0) return std::nullopt;
    const double ratio = std::max(*base, *value) / std::min(*base, *value);
    const std::string text = grouped(ratio, ratio < 99.95 ? 1 : 0);
    if (text == "1.0") return "as fast";
    return fmt::format("{}× {}", text, *base > *value ? "faster" : "slower");
}

std::optional<std::string> share(std::optional<double> base, std::optional<double> value) {
    if (!base || !value || *base <= 0) return std::nullopt;
    const double percent = *value / *base * 100;
    return grouped(percent, percent < 9.95 ? 1 : 0) + " %";
}

Headline headline(const Json& report) {
    Headline result;
    double largest = -1;
    const Json* all = member(report, "functions");
    for (const Json* function : functions(report)) {
        const auto ours = own_method(*function);
        const double size = number_at(*function, {"template", "mb"}).value_or(0);
        if (!ours || size <= largest) continue;
        auto parts = sentence_on(*function, *ours);
        if (parts.size() < 2) continue;  // nothing was measured
        result.parts = std::move(parts);
        result.function = static_cast<size_t>(function - &all->front());
        largest = size;
    }
    if (!result.parts.empty()) return result;
    std::vector<std::string> names;
    for (const Json* function : functions(report))
        names.push_back(text_at(*function, "name", "function"));
    result.parts = {{names.empty() ? "Nothing was measured"
                                   : fmt::format("Start times: {}", fmt::join(names, ", "))}};
    return result;
}

}  // namespace memplate::report
