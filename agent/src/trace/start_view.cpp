// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "trace/lines.h"
#include "trace/views.h"
#include "util/text.h"

namespace memplate::trace {
namespace {

constexpr size_t most_groups = 12;
constexpr size_t most_times = 1'000'000;

/// When a container can be used, in one sense or another.
bool is_timed(const std::string& phase) {
    return phase == "exec" || phase == "ready" || phase == "listening" || phase == "answered";
}

std::string peaks(const Life& life) {
    if (life.memory.peak == 0) return "";
    std::string text = ", peak " + format_size(life.memory.peak);
    if (const auto since = life.peak_since_entry(); since && since->exact)
        text += fmt::format(", {} since exec", format_size(since->bytes));
    return text;
}

}  // namespace

void StartTimes::add(const Life& life, const Phase& phase) {
    if (is_timed(phase.name) && times_.size() < most_times)
        times_.emplace_back(life.member, phase.name, life.milliseconds(phase));
}

std::map<std::string, Histogram> StartTimes::by_image() const {
    std::map<std::string, size_t> starts;
    for (const auto& [member, phase, ms] : times_) starts[member->group()]++;
    std::set<std::string> shown;
    std::vector<std::pair<size_t, std::string>> order;
    for (const auto& [group, count] : starts) order.emplace_back(count, group);
    std::ranges::stable_sort(order, std::greater(), &std::pair<size_t, std::string>::first);
    const size_t kept = order.size() <= most_groups ? order.size() : most_groups - 1;
    for (size_t i = 0; i < kept; i++) shown.insert(order[i].second);
    std::map<std::string, Histogram> histograms;
    for (const auto& [member, phase, ms] : times_) {
        const std::string group = member->group();
        histograms[fmt::format("{},{}", shown.contains(group) ? group : "others", phase)].add(ms);
    }
    return histograms;
}

Result<> StartView::begin(const std::vector<ProbeMethod>& methods) {
    TRY(PrintedView::begin(methods));
    if (json()) return {};
    std::string names;
    for (const ProbeMethod& method : methods)
        names += fmt::format("{}{} by {}", names.empty() ? "" : ", ", method.what, method.backend);
    fmt::print("{}\n{:>10}  {:<24}  phase\n", names, "ms", "container");
    (void)std::fflush(stdout);
    return {};
}

Result<> StartView::phase(const Life& life, const Phase& phase) {
    times_.add(life, phase);
    if (json()) {
        print_line(phase_line(life, phase));
        return {};
    }
    std::string detail = phase.detail;
    if (phase.name == "ended") detail += peaks(life);
    constexpr size_t longest = 4096;
    const std::string line = fmt::format("{:>+10.1f}  {:<24}  {:<10}  {}", life.milliseconds(phase),
                                         life.member->name(), phase.name, detail);
    fmt::print("{}\n", one_line(line.substr(0, line.find_last_not_of(' ') + 1), longest));
    (void)std::fflush(stdout);
    return {};
}

Result<> StartView::finish(const Snapshot& snapshot) {
    const auto histograms = times_.by_image();
    if (json()) {
        print_line(histograms_line(histograms));
    } else {
        for (const auto& [key, histogram] : histograms)
            fmt::print("\n@start_ms[{}]:\n{}", one_line(key, screen().width()),
                       histogram.text(screen().width()));
    }
    return PrintedView::finish(snapshot);
}

}  // namespace memplate::trace
