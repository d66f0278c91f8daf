// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "bench/report.h"
#include "bench/report_numbers.h"
#include "util/table.h"

namespace memplate {
namespace {

/// A column of a method table; a cell without a value is a dash.
struct Column {
    std::string title;
    std::vector<std::optional<std::string>> cells;
};

/// One row a method; columns without any value are left out, and so is a table without columns.
std::string method_table(const std::vector<std::string>& methods, std::vector<Column> columns,
                         bool colour) {
    std::erase_if(columns, [](const Column& column) {
        return std::ranges::none_of(column.cells, [](const auto& cell) { return bool(cell); });
    });
    if (columns.empty()) return {};
    std::vector<Table::Column> header = {{"method", Table::Align::left}};
    for (const Column& column : columns) header.push_back({column.title, Table::Align::right});
    Table table(std::move(header));
    for (size_t row = 0; row < methods.size(); row++) {
        const bool measured = std::ranges::any_of(
            columns, [&](const Column& column) { return bool(column.cells[row]); });
        if (!measured) continue;
        std::vector<std::string> cells = {methods[row]};
        for (const Column& column : columns) cells.push_back(column.cells[row].value_or("-"));
        table.add(std::move(cells));
    }
    return table.render(colour);
}

std::string time_table(const Json& function, const std::vector<std::string>& methods, bool colour) {
    std::vector<Column> columns;
    const auto add = [&](std::string title, const char* time, const char* quantile) {
        Column column{std::move(title), {}};
        for (const std::string& method : methods)
            column.cells.push_back(
                report::time_of(function, method, time, quantile).transform(report::amount));
        columns.push_back(std::move(column));
    };
    add("ready p50", "ready_ms", "p50");
    add("p99", "ready_ms", "p99");
    add("first answer p50", "first_answer_ms", "p50");
    add("p99", "first_answer_ms", "p99");
    add("touch all p50", "touch_ms", "p50");
    add("p99", "touch_ms", "p99");
    // The ratio is that of the first answer: what a caller waits for.
    const bool answered = bool(report::time_of(function, report::baseline, "first_answer_ms"));
    const char* time = answered ? "first_answer_ms" : "ready_ms";
    Column ratio{fmt::format("{}, against copy", answered ? "answer" : "ready"), {}};
    for (const std::string& method : methods)
        ratio.cells.push_back(method == report::baseline
                                  ? std::nullopt
                                  : report::speed(report::time_of(function, report::baseline, time),
                                                  report::time_of(function, method, time)));
    columns.push_back(std::move(ratio));
    return method_table(methods, std::move(columns), colour);
}

std::string memory_table(const Json& function, const std::vector<std::string>& methods,
                         bool colour) {
    std::vector<Column> columns;
    const auto add = [&](const char* title, const char* state, const char* kind) {
        Column column{title, {}};
        for (const std::string& method : methods)
            column.cells.push_back(
                report::memory_of(function, method, state, kind).transform([](double mb) {
                    return report::grouped(mb, mb < 9.95 ? 1 : 0);
                }));
        columns.push_back(std::move(column));
    };
    add("idle", "idle", "pss");
    add("private", "idle", "private");
    add("after request", "after_request", "pss");
    add("private", "after_request", "private");
    add("after touch all", "after_touch", "pss");
    add("private", "after_touch", "private");
    Column ratio{"idle, of copy", {}};
    for (const std::string& method : methods)
        ratio.cells.push_back(
            method == report::baseline
                ? std::nullopt
                : report::share(report::memory_of(function, report::baseline, "idle", "pss"),
                                report::memory_of(function, method, "idle", "pss")));
    columns.push_back(std::move(ratio));
    return method_table(methods, std::move(columns), colour);
}

std::string answers_line(const Json& report, bool colour) {
    const auto checked = report::number_at(report, {"answers_checked"});
    const auto wrong = report::number_at(report, {"answers_wrong"});
    if (wrong && *wrong > 0) {
        const std::string of =
            checked ? fmt::format(" of {} checked", report::grouped(*checked)) : "";
        return fmt::format("{}WRONG ANSWERS: {}{}; the restores are not correct{}\n",
                           colour ? "\x1b[1;31m" : "", report::grouped(*wrong), of,
                           colour ? "\x1b[0m" : "");
    }
    if (checked && *checked > 0 && wrong)
        return fmt::format("{} answers checked, 0 wrong\n", report::grouped(*checked));
    return "answers were not checked\n";
}

/// Names come from files: they must not steer the terminal.
std::string printable(std::string text) {
    std::ranges::replace_if(
        text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    return text;
}

}  // namespace

std::string report_headline(const Json& report) {
    std::string text;
    for (const auto& part : report::headline(report).parts) text += part.text;
    return text;
}

std::string report_summary_text(const Json& report, bool colour) {
    const std::string_view bold = colour ? "\x1b[1m" : "";
    const std::string_view plain = colour ? "\x1b[0m" : "";
    std::string text = fmt::format("{}{}{}\n", bold, printable(report_headline(report)), plain);
    for (const Json* function : report::functions(report)) {
        std::string title = printable(report::text_at(*function, "name", "function"));
        if (const auto mb = report::number_at(*function, {"template", "mb"}))
            title += fmt::format(", {} template", report::megabytes(*mb));
        if (const auto runs = report::number_at(*function, {"runs"}))
            title += fmt::format(", {} runs per method", report::grouped(*runs));
        const auto methods = report::methods(*function);
        const std::string times = time_table(*function, methods, colour);
        const std::string memory = memory_table(*function, methods, colour);
        if (times.empty() && memory.empty()) {
            text += fmt::format("\n{}: nothing was measured\n", title);
            continue;
        }
        if (!times.empty()) text += fmt::format("\n{}: times in ms\n{}", title, times);
        if (!memory.empty())
            text += fmt::format("\n{}: memory of {} instances, MB (PSS)\n{}",
                                printable(report::text_at(*function, "name", "function")),
                                report::instances(*function), memory);
    }
    return text + "\n" + answers_line(report, colour);
}

}  // namespace memplate
