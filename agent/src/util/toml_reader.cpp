// SPDX-License-Identifier: Apache-2.0
#include "util/toml_reader.h"

#include <algorithm>
#include <cmath>

namespace memplate {
namespace {

std::string_view type_name(const toml::node& node) {
    switch (node.type()) {
        case toml::node_type::table:
            return "a table";
        case toml::node_type::array:
            return node.is_array_of_tables() ? "an array of tables" : "an array";
        case toml::node_type::string:
            return "a string";
        case toml::node_type::integer:
            return "an integer";
        case toml::node_type::floating_point:
            return "a floating-point number";
        case toml::node_type::boolean:
            return "a boolean";
        default:
            return "a date or time";
    }
}

std::string wrong_type(const toml::node& node, std::string_view wanted) {
    return fmt::format("is {}; write {}", type_name(node), wanted);
}

bool has_nul(std::string_view text) {
    return text.find('\0') != std::string_view::npos;
}

}  // namespace

std::string printable(std::string_view text, size_t limit) {
    std::string out;
    for (const char character : text.substr(0, limit)) {
        const auto byte = static_cast<unsigned char>(character);
        if (byte >= 0x20 && byte < 0x7f) {
            out += character;
        } else if (character == '\n') {
            out += "\\n";
        } else {
            out += fmt::format("\\x{:02x}", byte);
        }
    }
    if (text.size() > limit) out += "...";
    return out;
}

Result<toml::table> parse_toml(std::string_view text, const std::string& origin) {
    try {
        return toml::parse(text);
    } catch (const toml::parse_error& error) {
        return fail(ErrorKind::usage,
                    fmt::format("{}:{}: not valid TOML: {}", origin, error.source().begin.line,
                                printable(error.description(), 300)));
    } catch (const std::exception& error) {
        return fail(ErrorKind::usage, fmt::format("{}: not readable as TOML: {}", origin,
                                                  printable(error.what(), 300)));
    }
}

Failure TomlReader::error_at(const toml::source_region& place, std::string_view key,
                             std::string_view what) const {
    const auto line = std::max<uint64_t>(place.begin.line, 1);
    return fail(ErrorKind::usage,
                fmt::format("{}:{}: {}{}: {}", origin_, line, prefix_, printable(key, 64), what));
}

Failure TomlReader::error(std::string_view key, std::string_view what) const {
    const toml::node* node = table_.get(key);
    return error_at(node ? node->source() : table_.source(), key, what);
}

Result<> TomlReader::check_keys(std::initializer_list<std::string_view> known) const {
    for (const auto& [key, node] : table_) {
        if (std::ranges::find(known, key.str()) == known.end()) {
            return error_at(key.source(), key.str(),
                            fmt::format("unknown key; known here: {}", fmt::join(known, ", ")));
        }
    }
    return {};
}

Result<> TomlReader::require(std::string_view key, std::string_view example) const {
    if (has(key)) return {};
    return error(key, fmt::format("missing; add {} = {}", key, example));
}

Result<> TomlReader::read(std::string_view key, std::string& value) const {
    const toml::node* node = table_.get(key);
    if (!node) return {};
    const auto* text = node->as_string();
    if (!text) return error(key, wrong_type(*node, "a string"));
    if (has_nul(text->get())) return error(key, "contains a NUL byte; remove it");
    value = text->get();
    return {};
}

Result<> TomlReader::read(std::string_view key, bool& value) const {
    const toml::node* node = table_.get(key);
    if (!node) return {};
    const auto* boolean = node->as_boolean();
    if (!boolean) return error(key, wrong_type(*node, "true or false"));
    value = boolean->get();
    return {};
}

Result<> TomlReader::read(std::string_view key, std::vector<std::string>& value) const {
    const toml::node* node = table_.get(key);
    if (!node) return {};
    const toml::array* array = node->as_array();
    if (!array) return error(key, wrong_type(*node, "an array of strings"));
    std::vector<std::string> found;
    for (const toml::node& element : *array) {
        const auto* text = element.as_string();
        const std::string name = fmt::format("{}[{}]", key, found.size());
        if (!text) return error_at(element.source(), name, wrong_type(element, "a string"));
        if (has_nul(text->get()))
            return error_at(element.source(), name, "contains a NUL byte; remove it");
        found.push_back(text->get());
    }
    value = std::move(found);
    return {};
}

Result<std::optional<int64_t>> TomlReader::integer(std::string_view key, int64_t low,
                                                   int64_t high) const {
    const toml::node* node = table_.get(key);
    if (!node) return std::nullopt;
    const auto* number = node->as_integer();
    if (!number) return error(key, wrong_type(*node, "an integer"));
    if (number->get() < low || number->get() > high) {
        return error(key,
                     fmt::format("{} is out of range; use {} to {}", number->get(), low, high));
    }
    return number->get();
}

Result<> TomlReader::read_number(std::string_view key, std::optional<double>& value, double low,
                                 double high) const {
    const toml::node* node = table_.get(key);
    if (!node) return {};
    double number = 0;
    if (const auto* integer = node->as_integer()) {
        number = static_cast<double>(integer->get());
    } else if (const auto* floating = node->as_floating_point()) {
        number = floating->get();
    } else {
        return error(key, wrong_type(*node, "a number"));
    }
    if (!std::isfinite(number) || number < low || number > high)
        return error(key, fmt::format("{} is out of range; use {} to {}", number, low, high));
    value = number;
    return {};
}

Result<const toml::table*> TomlReader::table(std::string_view key) const {
    const toml::node* node = table_.get(key);
    if (!node) return nullptr;
    if (!node->is_table())
        return error(key, wrong_type(*node, fmt::format("a table [{}{}]", prefix_, key)));
    return node->as_table();
}

Result<std::vector<const toml::table*>> TomlReader::tables(std::string_view key) const {
    std::vector<const toml::table*> found;
    const toml::node* node = table_.get(key);
    if (!node) return found;
    const std::string wanted = fmt::format("blocks that begin with [[{}{}]]", prefix_, key);
    const toml::array* array = node->as_array();
    if (!array) return error(key, wrong_type(*node, wanted));
    for (const toml::node& element : *array) {
        if (!element.is_table()) {
            return error_at(element.source(), fmt::format("{}[{}]", key, found.size()),
                            wrong_type(element, wanted));
        }
        found.push_back(element.as_table());
    }
    return found;
}

}  // namespace memplate
