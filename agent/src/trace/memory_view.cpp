// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "trace/lines.h"
#include "trace/views.h"
#include "util/text.h"

namespace memplate::trace {

void Trends::level(const Life& life) {
    double& most = most_[&life];
    most = std::max(most, static_cast<double>(life.memory.bytes));
}

void Trends::tick(const Snapshot& snapshot) {
    std::map<const Life*, std::deque<double>> kept;
    for (const auto& life : snapshot.lives) {
        std::deque<double>& values = kept[life.get()];
        if (const auto before = values_.find(life.get()); before != values_.end())
            values = std::move(before->second);
        const auto most = most_.find(life.get());
        const auto now = static_cast<double>(life->memory.bytes);
        values.push_back(most == most_.end() ? now : std::max(now, most->second));
        if (values.size() > length_) values.pop_front();
    }
    values_ = std::move(kept);
    most_.clear();
}

const std::deque<double>& Trends::of(const Life& life) const {
    static const std::deque<double> none;
    const auto found = values_.find(&life);
    return found == values_.end() ? none : found->second;
}

Result<> MemoryView::level(const Life& life) {
    trends_.level(life);
    return {};
}

Result<> MemoryView::tick(const Snapshot& snapshot) {
    trends_.tick(snapshot);
    if (json())
        print_line(memory_line(snapshot));
    else
        show_table(snapshot);
    return {};
}

void MemoryView::show_table(const Snapshot& snapshot) {
    using enum Table::Align;
    Grid grid({{"container", left, 0},
               {"now", right, 0},
               {"peak", right, 1},
               {"since exec", right, 2},
               {"inactive file", right, 5},
               {"docker stats", right, 4},
               {"trend", left, 3}});
    auto lives = snapshot.lives;
    std::ranges::stable_sort(lives, std::greater(),
                             [](const auto& life) { return life->memory.bytes; });
    const size_t rows = std::min(lives.size(), room());
    for (const auto& life : std::span(lives).first(rows)) {
        const auto since = life->peak_since_entry();
        grid.add(
            {life->member->name(), format_size(life->memory.bytes), format_size(life->memory.peak),
             since ? fmt::format("{}{}", since->exact ? "" : "≥ ", format_size(since->bytes)) : "-",
             format_size(life->memory.inactive_file),
             format_size(life->memory.without_inactive_file()), sparkline(trends_.of(*life))});
    }
    show(snapshot, grid, lives.size() - rows, "no container matches yet");
}

Result<> MemoryView::finish(const Snapshot& snapshot) {
    TRY(tick(snapshot));
    return PrintedView::finish(snapshot);
}

}  // namespace memplate::trace
