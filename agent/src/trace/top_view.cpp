// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "trace/lines.h"
#include "trace/views.h"
#include "util/text.h"

namespace memplate::trace {
namespace {

/// When it could be used, as far as that was seen.
const Phase* usable(const Life& life) {
    for (const char* name : {"answered", "ready", "listening"})
        if (const Phase* phase = life.phase(name)) return phase;
    return nullptr;
}

std::string since_birth(const Life& life, const Phase* phase) {
    return phase == nullptr ? "-" : fmt::format("{:.1f}", life.milliseconds(*phase));
}

std::string age(const Life& life, int64_t now_ns) {
    if (life.born_ns == 0) return "before";
    const int64_t end_ns = life.ended_ns != 0 ? life.ended_ns : now_ns;
    const auto seconds = static_cast<uint64_t>(end_ns - life.born_ns) / 1'000'000'000;
    if (seconds < 60) return fmt::format("{} s", seconds);
    if (seconds < 3600) return fmt::format("{} min", seconds / 60);
    return fmt::format("{} h", seconds / 3600);
}

struct FaultSums {
    uint64_t minor = 0;  ///< and copies on write
    uint64_t major = 0;
};
std::map<const Life*, FaultSums> sum_faults(const Snapshot& snapshot) {
    std::map<const Life*, FaultSums> sums;
    for (const LifeFaults& row : snapshot.faults) {
        FaultSums& sum = sums[row.life.get()];
        (row.count.kind == FaultCount::Kind::major ? sum.major : sum.minor) += row.count.count;
    }
    return sums;
}

Json top_line(const Snapshot& snapshot, const std::vector<std::shared_ptr<const Life>>& lives,
              bool faults) {
    const auto sums = sum_faults(snapshot);
    Json map = Json::object();
    for (const auto& life : lives) {
        Json one = {{"state", life->state()}};
        Json& phases = one["phases_ms"] = Json::object();
        if (life->begun)
            for (const Phase& phase : life->phases) phases[phase.name] = life->milliseconds(phase);
        one.update(memory_json(*life));
        if (faults) {
            const auto sum = sums.find(life.get());
            one["minor_faults"] = sum == sums.end() ? 0 : sum->second.minor;
            one["major_faults"] = sum == sums.end() ? 0 : sum->second.major;
        }
        one["container"] = container_json(*life);
        map[unique_key(map, life->member->name(), *life)] = std::move(one);
    }
    return {{"type", "map"},
            {"time_ns", snapshot.time_ns},
            {"data", {{"@containers", std::move(map)}}}};
}

}  // namespace

Result<> TopView::level(const Life& life) {
    trends_.level(life);
    return {};
}

std::vector<std::shared_ptr<const Life>> TopView::sorted(const Snapshot& snapshot) const {
    auto lives = snapshot.lives;
    std::ranges::stable_sort(lives, {}, [](const auto& life) { return life->member->name(); });
    if (order_ == Order::memory)
        std::ranges::stable_sort(lives, std::greater(),
                                 [](const auto& life) { return life->memory.bytes; });
    if (order_ == Order::start)
        std::ranges::stable_sort(lives, std::greater(),
                                 [](const auto& life) { return life->born_ns; });
    return lives;
}

void TopView::show_table(const Snapshot& snapshot) {
    using enum Table::Align;
    std::vector<Grid::Column> columns = {
        {"container", left, 0}, {"state", left, 3},   {"age", right, 4},  {"exec ms", right, 5},
        {"ready ms", right, 6}, {"memory", right, 0}, {"peak", right, 1}, {"since exec", right, 7}};
    if (faults_) {
        columns.push_back({"minor", right, 8});
        columns.push_back({"major", right, 2});
    }
    columns.push_back({"trend", left, 9});
    columns.push_back({"image", left, 10});
    Grid grid(columns);
    const auto sums = sum_faults(snapshot);
    const auto lives = sorted(snapshot);
    const size_t rows = std::min(lives.size(), room());
    for (const auto& life : std::span(lives).first(rows)) {
        const auto since = life->peak_since_entry();
        std::vector<std::string> cells = {
            life->member->name(),
            life->state(),
            age(*life, snapshot.time_ns),
            since_birth(*life, life->phase("exec")),
            since_birth(*life, usable(*life)),
            format_size(life->memory.bytes),
            format_size(life->memory.peak),
            since ? fmt::format("{}{}", since->exact ? "" : "≥ ", format_size(since->bytes)) : "-"};
        if (faults_) {
            const auto sum = sums.find(life.get());
            cells.push_back(std::to_string(sum == sums.end() ? 0 : sum->second.minor));
            cells.push_back(std::to_string(sum == sums.end() ? 0 : sum->second.major));
        }
        cells.push_back(sparkline(trends_.of(*life)));
        cells.push_back(life->member->container.image.empty() ? life->member->container.engine
                                                              : life->member->container.image);
        grid.add(std::move(cells));
    }
    show(snapshot, grid, lives.size() - rows, "no container matches yet");
}

Result<> TopView::tick(const Snapshot& snapshot) {
    trends_.tick(snapshot);
    if (json())
        print_line(top_line(snapshot, sorted(snapshot), faults_));
    else
        show_table(snapshot);
    return {};
}

Result<> TopView::finish(const Snapshot& snapshot) {
    TRY(tick(snapshot));
    return PrintedView::finish(snapshot);
}

}  // namespace memplate::trace
