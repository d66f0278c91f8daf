// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace memplate {

/// Aligned columns for people, at most 100 characters wide: the widest text column is shortened
/// with "…" when the table would be wider.
class Table {
  public:
    enum class Align { left, right };
    struct Column {
        std::string title;
        Align align = Align::left;
    };
    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
    void add(std::vector<std::string> cells);
    /// Header line in bold if `colour`, then one line a row; no trailing spaces.
    [[nodiscard]] std::string render(bool colour = false, size_t max_width = 100) const;
    [[nodiscard]] bool empty() const { return rows_.empty(); }

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

/// True if `fd` is a terminal and NO_COLOR is not set.
[[nodiscard]] bool wants_colour(int fd);

}  // namespace memplate
