// SPDX-License-Identifier: Apache-2.0
//
// Recordings as self-contained web pages: memory over time with the limit, the hull and what is
// billed; a bar for each phase of a start.
#pragma once

#include "cost/run_report.h"
#include "cost/tune.h"

namespace memplate::cost {

/// What a page shows; for other verbs that have recordings too.
struct Page {
    enum class Line { level, hull, limit, billed, flat };
    struct Series {
        std::string name;
        Line line = Line::level;
        std::vector<std::pair<double, double>>
            points;  ///< ms from the exec, MB; held till the next
    };
    struct Chart {
        std::string title;
        std::string unit = "MB of 2^20 bytes, from the exec on";
        std::string note;
        std::vector<Series> series;
        std::vector<std::pair<double, std::string>> marks;   ///< ms, text
        std::vector<std::pair<std::string, double>> phases;  ///< name, ms
    };
    std::string verb;  ///< "cost run"
    std::string headline;
    std::string lead;
    std::string text;  ///< the report
    std::vector<std::pair<std::string, std::string>> tiles;
    std::vector<Chart> charts;
    std::vector<std::pair<std::string, std::string>> facts;

    [[nodiscard]] std::string html() const;
};

/// The levels of a trace, thinned to what a screen can show; peaks stay.
[[nodiscard]] Page::Series series_of(const Trace& trace, std::string name);
/// From event to event, "start → exec" and so on.
[[nodiscard]] std::vector<std::pair<std::string, double>> phases_of(const Trace& trace);

[[nodiscard]] Result<Page> run_page(const RunReport& report, const std::vector<Trace>& traces);
[[nodiscard]] Page hull_page(const Hull& hull, const std::vector<Trace>& traces,
                             const std::string& text);
[[nodiscard]] Page tune_page(const TuneReport& report, const Hull& hull, const Trace& trace);

}  // namespace memplate::cost
