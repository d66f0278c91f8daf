// SPDX-License-Identifier: Apache-2.0
#include "util/table.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace memplate {
namespace {

constexpr std::string_view gap = "  ";
constexpr size_t narrowest = 4;  ///< a shortened column keeps this many characters

bool continues_character(char byte) {
    return (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
}

/// Characters on the screen, one for each code point.
size_t width_of(std::string_view text) {
    return static_cast<size_t>(
        std::ranges::count_if(text, [](char c) { return !continues_character(c); }));
}

std::string shorten(std::string_view text, size_t width) {
    if (width_of(text) <= width) return std::string(text);
    size_t characters = 0;
    size_t end = 0;
    while (end < text.size()) {
        if (!continues_character(text[end]) && characters++ == width - 1) break;
        end++;
    }
    return std::string(text.substr(0, end)) + "…";
}

/// Names of processes and files come from elsewhere: they must not steer the terminal.
std::string without_controls(std::string text) {
    for (char& c : text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    return text;
}

}  // namespace

void Table::add(std::vector<std::string> cells) {
    cells.resize(columns_.size());
    for (std::string& cell : cells) cell = without_controls(std::move(cell));
    rows_.push_back(std::move(cells));
}

std::string Table::render(bool colour, size_t max_width) const {
    if (columns_.empty()) return {};
    std::vector<size_t> widths;
    size_t total = gap.size() * (columns_.size() - 1);
    for (size_t i = 0; i < columns_.size(); i++) {
        size_t width = width_of(columns_[i].title);
        for (const auto& row : rows_) width = std::max(width, width_of(row[i]));
        widths.push_back(width);
        total += width;
    }
    for (; total > max_width; total--) {
        size_t* widest = nullptr;
        for (size_t i = 0; i < columns_.size(); i++)
            if (columns_[i].align == Align::left && widths[i] > narrowest &&
                (widest == nullptr || widths[i] > *widest))
                widest = &widths[i];
        if (widest == nullptr) break;  // numbers are never cut
        --*widest;
    }

    std::string text;
    const auto add_line = [&](const auto& cell_of) {
        const size_t line_start = text.size();
        for (size_t i = 0; i < columns_.size(); i++) {
            if (i > 0) text += gap;
            const std::string cell = shorten(cell_of(i), widths[i]);
            const std::string padding(widths[i] - std::min(widths[i], width_of(cell)), ' ');
            text += columns_[i].align == Align::right ? padding + cell : cell + padding;
        }
        const size_t last = text.find_last_not_of(' ');
        text.resize(std::max(line_start, last == std::string::npos ? 0 : last + 1));
    };
    if (colour) text += "\x1b[1m";
    add_line([&](size_t i) -> std::string_view { return columns_[i].title; });
    if (colour) text += "\x1b[0m";
    text += '\n';
    for (const auto& row : rows_) {
        add_line([&](size_t i) -> std::string_view { return row[i]; });
        text += '\n';
    }
    return text;
}

bool wants_colour(int fd) {
    const char* no_colour = ::getenv("NO_COLOR");
    return ::isatty(fd) == 1 && (no_colour == nullptr || *no_colour == '\0');
}

}  // namespace memplate
