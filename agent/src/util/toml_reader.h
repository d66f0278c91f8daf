// SPDX-License-Identifier: Apache-2.0
//
// Strict reading of one TOML table: every key must be known, of the right type and in range. An
// error is one line, "FILE:LINE: KEY: what; what to do" (kind usage).
#pragma once

#include <toml++/toml.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "util/result.h"

namespace memplate {

/// Text from a file made fit for a one-line message: control and non-ASCII bytes become \xNN, and
/// what exceeds `limit` bytes is cut.
[[nodiscard]] std::string printable(std::string_view text, size_t limit = 120);

/// The whole text as a table; syntax errors name file and line.
[[nodiscard]] Result<toml::table> parse_toml(std::string_view text, const std::string& origin);

class TomlReader {
  public:
    /// `prefix` is what messages put before the keys of this table: "", or e.g. "readiness.".
    TomlReader(const toml::table& table, std::string prefix, std::string origin)
        : table_(table), prefix_(std::move(prefix)), origin_(std::move(origin)) {}

    /// Refuses the first key that is not in `known`.
    [[nodiscard]] Result<> check_keys(std::initializer_list<std::string_view> known) const;

    [[nodiscard]] bool has(std::string_view key) const { return table_.get(key) != nullptr; }
    [[nodiscard]] Result<> require(std::string_view key, std::string_view example) const;

    // Each leaves `value` alone when the key is absent. Strings never contain a NUL byte.
    [[nodiscard]] Result<> read(std::string_view key, std::string& value) const;
    [[nodiscard]] Result<> read(std::string_view key, std::vector<std::string>& value) const;
    [[nodiscard]] Result<> read(std::string_view key, bool& value) const;
    template <class Integer>
    [[nodiscard]] Result<> read(std::string_view key, Integer& value, int64_t low,
                                int64_t high) const {
        TRY_ASSIGN(const auto found, integer(key, low, high));
        if (found) value = static_cast<Integer>(*found);
        return {};
    }
    /// A finite number, written with or without a fraction.
    [[nodiscard]] Result<> read_number(std::string_view key, std::optional<double>& value,
                                       double low, double high) const;
    /// Null when absent.
    [[nodiscard]] Result<const toml::table*> table(std::string_view key) const;
    /// [[key]] blocks; empty when absent.
    [[nodiscard]] Result<std::vector<const toml::table*>> tables(std::string_view key) const;

    [[nodiscard]] const toml::table& raw() const { return table_; }
    [[nodiscard]] const std::string& origin() const { return origin_; }
    /// An error about `key`, at the line of its value (of the table if it is absent).
    [[nodiscard]] Failure error(std::string_view key, std::string_view what) const;

  private:
    [[nodiscard]] Result<std::optional<int64_t>> integer(std::string_view key, int64_t low,
                                                         int64_t high) const;
    [[nodiscard]] Failure error_at(const toml::source_region& place, std::string_view key,
                                   std::string_view what) const;

    const toml::table& table_;
    std::string prefix_;
    std::string origin_;
};

}  // namespace memplate
