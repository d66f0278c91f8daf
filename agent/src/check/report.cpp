// SPDX-License-Identifier: Apache-2.0
#include "check/report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "util/table.h"
#include "util/text.h"

namespace memplate::check {
namespace {

constexpr size_t line_width = 100;

std::string mark(bool ok, Style style) {
    if (style.unicode) return ok ? "✓" : "✗";
    return ok ? "yes" : "no";
}

/// Breaks `text` at blanks; the first line is indented by `first`, the others by two more.
std::string wrap(std::string_view text, size_t first) {
    std::string result(first, ' ');
    size_t column = first;
    for (const std::string& word : split(text, ' ')) {
        if (column != first && column + 1 + word.size() > line_width) {
            column = first + 2;
            result += '\n' + std::string(column, ' ');
        } else if (column != first) {
            result += ' ';
            ++column;
        }
        result += word;
        column += word.size();
    }
    return result + "\n";
}

std::string render_table(const Report& report, Style style) {
    Table table({{"GROUP"}, {""}, {"CAPABILITY"}, {"NEEDED FOR"}, {"FOUND"}});
    std::string_view group;
    for (const Capability& capability : report.capabilities) {
        table.add({capability.group == group ? "" : capability.group, mark(capability.ok, style),
                   capability.name, capability.needed_for, capability.reason});
        group = capability.group;
    }
    return table.render(style.colour, line_width);
}

std::string render_fixes(const Report& report) {
    std::string text;
    for (const Capability& capability : report.capabilities) {
        if (capability.ok) continue;
        // The table shortens long reasons; here they are whole.
        text += wrap(fmt::format("{}: {}", capability.name, capability.reason), 2);
        text += wrap(fmt::format("to do: {}", capability.fix), 4);
    }
    return text.empty() ? text : "\nNot available here:\n" + text;
}

std::string render_methods(const Report& report, Style style) {
    std::string text = "\nStart methods:";
    for (const auto& [method, works] : report.methods)
        text += fmt::format(" {} {}{}", method, mark(works, style),
                            &method == &report.methods.back().first ? "" : ",");
    text += '\n';
    for (const auto& [method, works] : report.methods)
        if (!works)
            text += wrap(
                fmt::format("{} lacks: {}", method, fmt::join(report.missing_for(method), ", ")),
                2);
    return text;
}

}  // namespace

bool Report::works(std::string_view method) const {
    return std::ranges::any_of(
        methods, [&](const auto& entry) { return entry.first == method && entry.second; });
}

std::vector<std::string> Report::missing_for(std::string_view method) const {
    std::vector<std::string> names;
    for (const Capability& capability : capabilities)
        if (!capability.ok &&
            std::ranges::find(capability.required_by, method) != capability.required_by.end())
            names.push_back(capability.name);
    return names;
}

Report make_report(std::vector<Capability> capabilities) {
    Report report;
    report.capabilities = std::move(capabilities);
    for (const std::string_view method : start_methods)
        report.methods.emplace_back(method, report.missing_for(method).empty());
    return report;
}

Json to_json(const Report& report) {
    Json document{{"schema", 1}, {"capabilities", Json::array()}, {"engines", Json::object()}};
    for (const Capability& capability : report.capabilities)
        document["capabilities"].push_back({{"name", capability.name},
                                            {"group", capability.group},
                                            {"ok", capability.ok},
                                            {"reason", capability.reason},
                                            {"fix", capability.fix},
                                            {"needed_for", capability.needed_for}});
    for (const auto& [method, works] : report.methods)
        document["engines"][std::string(method)] = works;
    return document;
}

std::string render(const Report& report, Style style) {
    return render_table(report, style) + render_fixes(report) + render_methods(report, style);
}

}  // namespace memplate::check
