// SPDX-License-Identifier: Apache-2.0
#include "trace/screen.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "util/text.h"

namespace memplate::trace {
namespace {

constexpr size_t widest = 100;
/// Text columns may be shortened to this before a column is left out.
constexpr size_t short_text = 16;

bool continues_character(char byte) {
    return (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
}

size_t width_of(std::string_view text) {
    return static_cast<size_t>(
        std::ranges::count_if(text, [](char c) { return !continues_character(c); }));
}

/// At most so many characters: a line that wraps would be two.
std::string cut(std::string_view line, size_t width) {
    size_t characters = 0;
    size_t end = 0;
    for (; end < line.size(); end++)
        if (!continues_character(line[end]) && characters++ == width) break;
    return std::string(line.substr(0, end));
}

bool is_dumb() {
    const char* term = std::getenv("TERM");
    return term != nullptr && std::string_view(term) == "dumb";
}

}  // namespace

std::string Grid::render(size_t width, bool colour) const {
    std::vector<size_t> order(columns_.size());  // of leaving
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return columns_[i].rank; });
    std::vector<bool> left_out(columns_.size());
    const auto least_width = [&] {
        size_t total = 0;
        for (size_t i = 0; i < columns_.size(); i++) {
            if (left_out[i]) continue;
            size_t column = width_of(columns_[i].title);
            for (const auto& row : rows_) column = std::max(column, width_of(row[i]));
            if (columns_[i].align == Table::Align::left) column = std::min(column, short_text);
            total += column + 2;
        }
        return total - std::min<size_t>(total, 2);
    };
    for (const size_t i : order) {
        if (least_width() <= width || columns_[i].rank == 0) break;
        left_out[i] = true;
    }
    std::vector<Table::Column> columns;
    for (size_t i = 0; i < columns_.size(); i++)
        if (!left_out[i]) columns.push_back({columns_[i].title, columns_[i].align});
    Table table(columns);
    for (const auto& row : rows_) {
        std::vector<std::string> cells;
        for (size_t i = 0; i < columns_.size(); i++)
            if (!left_out[i]) cells.push_back(row[i]);
        table.add(std::move(cells));
    }
    // Escape sequences must not be cut.
    const bool fits = least_width() <= width;
    std::string text = table.render(colour && fits, width);
    if (fits) return text;
    std::string result;
    for (const std::string& line : split(trim(text), '\n')) result += cut(line, width) + "\n";
    return result;
}

std::string sparkline(const std::deque<double>& values) {
    constexpr std::array<const char*, 8> blocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    if (values.empty()) return "";
    const double most = std::ranges::max(values);
    std::string text;
    for (const double value : values) {
        const double share = most > 0 ? std::max(value, 0.0) / most : 0;
        text += blocks.at(std::min<size_t>(7, static_cast<size_t>(share * 8)));
    }
    return text;
}

std::string one_line(std::string_view text, size_t width) {
    std::string line = cut(text, width);
    for (char& c : line)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    return line;
}

Screen::Screen()
    : terminal_(::isatty(STDOUT_FILENO) == 1 && !is_dumb()), colour_(wants_colour(STDOUT_FILENO)) {}

size_t Screen::width() const {
    if (const char* columns = std::getenv("COLUMNS")) {
        if (const auto value = parse_unsigned(columns); value && *value >= 10)
            return std::min<size_t>(*value, widest);
    }
    winsize size{};
    if (terminal_ && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 10)
        return std::min<size_t>(size.ws_col, widest);
    return widest;
}

size_t Screen::height() const {
    winsize size{};
    if (terminal_ && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row >= 4)
        return size.ws_row - 1U;
    return terminal_ ? 24 : std::numeric_limits<size_t>::max();
}

void Screen::show(const std::string& frame) {
    const std::string before = terminal_ && drawn_ > 0 ? fmt::format("\x1b[{}A\r\x1b[J", drawn_)
                               : !terminal_ && any_    ? "\n"
                                                       : "";
    fmt::print("{}{}", before, frame);
    (void)std::fflush(stdout);
    any_ = true;
    drawn_ = static_cast<size_t>(std::ranges::count(frame, '\n'));
}

}  // namespace memplate::trace
