// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cost/tune.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cost {
namespace {

constexpr size_t shown_at_most = 20;

std::string line(std::string_view name, const std::string& value) {
    return fmt::format("{:<18}{}\n", name, value);
}

double saved_percent(const TuneReport& report) {
    return cost::saved_percent(report.flat_gb_seconds, report.tuned_gb_seconds);
}

bool is_intervention(const Tuner::Change& change) {
    return change.reason != Tuner::Reason::hull;
}

}  // namespace

Json TuneReport::to_json() const {
    Json json = {{"schema", 1},
                 {"subject", subject},
                 {"dry_run", dry_run},
                 {"mechanism", mechanism},
                 {"duration_ns", duration_ns},
                 {"peak_bytes", peak_bytes},
                 {"flat_limit_bytes", flat_bytes},
                 {"flat_gb_seconds", flat_gb_seconds},
                 {"tuned_gb_seconds", tuned_gb_seconds},
                 {"saved_gb_seconds", flat_gb_seconds - tuned_gb_seconds},
                 {"saved_percent", saved_percent(*this)},
                 {"first_limit_bytes", first_limit},
                 {"limit_hits", limit_hits},
                 {"oom_kills", oom_kills},
                 {"refused", refused}};
    if (dry_run) json["samples_above_limit"] = above_limit;
    json["interventions"] = std::ranges::count_if(changes, is_intervention);
    json["changes"] = Json::array();
    for (const Tuner::Change& change : changes)
        json["changes"].push_back({{"time_ns", change.time_ns},
                                   {"from_bytes", change.from},
                                   {"to_bytes", change.to},
                                   {"use_bytes", change.use},
                                   {"reason", name_of(change.reason)}});
    if (run) {
        json["method"] = run->method.to_json();
        json["run"] = run->to_json();
    }
    return json;
}

std::string TuneReport::text(bool colour) const {
    std::string text = line(dry_run ? "dry run of" : "tuned", subject);
    text += line("run time", fmt::format("{:.3f} ms", static_cast<double>(duration_ns) / 1e6));
    text += line("maximum memory", format_size(peak_bytes));
    text += line("flat limit",
                 fmt::format("{}: {:.4f} GB-s", format_size(flat_bytes), flat_gb_seconds));
    text +=
        line("along the hull",
             fmt::format("{:.4f} GB-s, {:.4f} GB-s ({:.1f} %) saved, {} changes", tuned_gb_seconds,
                         flat_gb_seconds - tuned_gb_seconds, saved_percent(*this), changes.size()));
    text += line("limits", mechanism);
    if (run) text += line("method", run->method_text());
    if (dry_run)
        text += line("above the limit", fmt::format("{} samples", above_limit));
    else
        text += line("limit hit", fmt::format("{} times, {} processes killed, {} changes refused",
                                              limit_hits, oom_kills, refused.size()));
    if (run && !run->failure.empty()) text += line("the command", run->failure);
    const auto count = std::ranges::count_if(changes, is_intervention);
    text += line("interventions", std::to_string(count));
    if (count == 0) return text;
    using enum Table::Align;
    Table table(
        {{"ms", right}, {"use MB", right}, {"from MB", right}, {"to MB", right}, {"why", left}});
    size_t shown = 0;
    const auto mb = [](uint64_t bytes) {
        return fmt::format("{:.1f}", static_cast<double>(bytes) / (1 << 20));
    };
    for (const Tuner::Change& change : changes)
        if (is_intervention(change) && shown++ < shown_at_most)
            table.add({fmt::format("{:.1f}", static_cast<double>(change.time_ns) / 1e6),
                       mb(change.use), mb(change.from), mb(change.to),
                       std::string(name_of(change.reason))});
    text += "\n" + table.render(colour);
    if (shown > shown_at_most)
        text += fmt::format("… and {} more; --json has all\n", shown - shown_at_most);
    return text;
}

}  // namespace memplate::cost
