// SPDX-License-Identifier: Apache-2.0
#include "cost/run_report.h"

#include <algorithm>

#include "cost/clock.h"
#include "util/stats.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cost {
namespace {

double milliseconds(const RunRecord& run) {
    return static_cast<double>(run.end_ns - run.start_ns) / 1e6;
}

std::string line(std::string_view name, const std::string& value) {
    return fmt::format("{:<18}{}\n", name, value);
}

/// One row a run; the first profile's prices.
Result<std::string> run_table(const RunReport& report, bool colour) {
    using enum Table::Align;
    Table table({{"run", right},
                 {"memory MB", right},
                 {"time ms", right},
                 {"billed MB", right},
                 {"billed ms", right},
                 {"cost", right},
                 {"net", right},
                 {"overhead", right},
                 {"", left}});
    const PriceProfile& profile = report.profiles.front();
    for (size_t i = 0; i < report.runs.size(); i++) {
        const RunRecord& run = report.runs[i];
        const auto charged = report.bill(profile, run);
        if (!charged) {  // the run was measured all the same
            table.add({std::to_string(i + 1), "", fmt::format("{:.1f}", milliseconds(run)), "", "",
                       "", "", "", charged.error().message});
            continue;
        }
        const Bill& bill = *charged;
        table.add({std::to_string(i + 1), std::to_string(bill.used_mb),
                   fmt::format("{:.1f}", milliseconds(run)), std::to_string(bill.billed_mb),
                   std::to_string(bill.billed_ms), profile.money(bill.total),
                   profile.money(bill.net), profile.money(bill.overhead), run.failure});
    }
    return table.render(colour);
}

}  // namespace

Result<Bill> RunReport::bill(const PriceProfile& profile, const RunRecord& run) const {
    Usage one = usage;
    one.memory_bytes = run.peak_bytes;
    one.duration_ms = run.duration_ms();
    return price(profile, one);
}

RunRecord RunReport::typical() const {
    RunRecord all = runs.front();
    int64_t sum = 0;
    for (const RunRecord& run : runs) {
        all.peak_bytes = std::max(all.peak_bytes, run.peak_bytes);
        all.longest_gap_ns = std::max(all.longest_gap_ns, run.longest_gap_ns);
        sum += run.end_ns - run.start_ns;
        if (!run.failure.empty()) all.failure = run.failure;
    }
    all.end_ns = all.start_ns + sum / static_cast<int64_t>(runs.size());
    return all;
}

Result<Json> RunReport::to_json() const {
    Json json = {{"schema", 1}, {"subject", subject}};
    json["method"] = runs.front().method.to_json();
    json["environment"] = environment;
    // A size that a profile does not sell takes nothing away from the measurement.
    const auto bills_of = [&](const RunRecord& run) {
        Json bills = Json::array();
        for (const PriceProfile& profile : profiles) {
            const auto charged = bill(profile, run);
            bills.push_back(charged ? charged->to_json(profile)
                                    : Json({{"profile", profile.to_json()},
                                            {"error", charged.error().message}}));
        }
        return bills;
    };
    json["runs"] = Json::array();
    for (const RunRecord& run : runs) {
        Json one = run.to_json();
        one["bills"] = bills_of(run);
        json["runs"].push_back(std::move(one));
    }
    const RunRecord all = typical();
    std::vector<double> times;
    for (const RunRecord& run : runs) times.push_back(milliseconds(run));
    Json& summary = json["summary"] = {
        {"runs", runs.size()}, {"peak_bytes", all.peak_bytes}, {"duration_ms", summarize(times)}};
    summary["bills"] = bills_of(all);
    return json;
}

Result<std::string> RunReport::text(bool colour) const {
    const RunRecord all = typical();
    std::string text;
    if (runs.size() > 1) {
        TRY_ASSIGN(const std::string table, run_table(*this, colour));
        text += table + "\n";
    }
    text += line("measured", subject);
    text += line("maximum memory", fmt::format("{} ({} bytes)", format_size(all.peak_bytes),
                                               grouped(all.peak_bytes)));
    text += line(runs.size() > 1 ? "mean run time" : "run time",
                 fmt::format("{:.3f} ms{}", milliseconds(all),
                             all.followed ? ", since it is followed" : ""));
    if (runs.size() == 1 && !all.failure.empty()) text += line("the command", all.failure);
    for (const RunRecord& run : runs)
        if (run.clock_set_ns != 0)
            text += line("wall clock", fmt::format("was set by {:+.3f} s during the run; the times "
                                                   "here are monotonic",
                                                   static_cast<double>(run.clock_set_ns) / 1e9));
    text += line("method", all.method_text());
    for (const PriceProfile& profile : profiles) {
        const auto charged = bill(profile, all);
        text += "\n" + (charged ? bill_text(profile, *charged) : charged.error().message + "\n");
    }
    return text;
}

}  // namespace memplate::cost
