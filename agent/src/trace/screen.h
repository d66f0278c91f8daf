// SPDX-License-Identifier: Apache-2.0
//
// Tables that standard output shows again and again: redrawn in place on a terminal, one after the
// other elsewhere. The rest of the terminal is left alone.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "util/table.h"

namespace memplate::trace {

/// A table that leaves out columns where it would be too wide.
class Grid {
  public:
    struct Column {
        std::string title;
        Table::Align align = Table::Align::left;
        int rank = 0;  ///< the highest goes first; 0 stays
    };
    explicit Grid(std::vector<Column> columns) : columns_(std::move(columns)) {}
    void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
    [[nodiscard]] std::string render(size_t width, bool colour) const;

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

/// The values as one character each, the largest the highest.
[[nodiscard]] std::string sparkline(const std::deque<double>& values);

/// At most so many characters, without what would steer the terminal.
[[nodiscard]] std::string one_line(std::string_view text, size_t width);

class Screen {
  public:
    Screen();
    /// COLUMNS, else the terminal's, at most 100; 100 where there is none.
    [[nodiscard]] size_t width() const;
    /// Lines that a frame may have; no limit where it is not redrawn.
    [[nodiscard]] size_t height() const;
    [[nodiscard]] bool terminal() const { return terminal_; }
    [[nodiscard]] bool colour() const { return colour_; }
    /// Takes the place of the frame before. Its lines are no wider than width().
    void show(const std::string& frame);

  private:
    bool terminal_;
    bool colour_;
    size_t drawn_ = 0;  ///< lines
    bool any_ = false;
};

}  // namespace memplate::trace
