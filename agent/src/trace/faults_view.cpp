// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "trace/device.h"
#include "trace/lines.h"
#include "trace/views.h"

namespace memplate::trace {
namespace {

std::string key_of(const LifeFaults& row) {
    return fmt::format("{} {} {} {} {}", row.life->member->cgroup, row.count.device,
                       static_cast<int>(row.count.backing), static_cast<int>(row.count.kind),
                       row.count.write);
}

}  // namespace

Result<> FaultsView::tick(const Snapshot& snapshot) {
    if (json())
        print_line(faults_line(snapshot));
    else
        show_table(snapshot);
    before_.clear();
    for (const LifeFaults& row : snapshot.faults) before_[key_of(row)] = row.count.count;
    before_ns_ = snapshot.time_ns;
    return {};
}

void FaultsView::show_table(const Snapshot& snapshot) {
    using enum Table::Align;
    Grid grid({{"container", left, 0},
               {"fault", left, 0},
               {"backing", left, 2},
               {"device", left, 1},
               {"access", left, 3},
               {"faults", right, 0},
               {"per s", right, 4}});
    auto all = snapshot.faults;
    std::ranges::stable_sort(all, std::greater(),
                             [](const LifeFaults& row) { return row.count.count; });
    const size_t rows = std::min(all.size(), room());
    const double seconds = static_cast<double>(snapshot.time_ns - before_ns_) / 1e9;
    for (const LifeFaults& row : std::span(all).first(rows)) {
        const FaultCount& count = row.count;
        const auto before = before_.find(key_of(row));
        const uint64_t fresh = count.count - (before == before_.end() ? 0 : before->second);
        grid.add({row.life->member->name(), std::string(name_of(count.kind)),
                  std::string(name_of(count.backing)), device_name(count),
                  count.write ? "write" : "read", std::to_string(count.count),
                  before_ns_ == 0 || seconds <= 0
                      ? "-"
                      : fmt::format("{:.0f}", static_cast<double>(fresh) / seconds)});
    }
    show(snapshot, grid, all.size() - rows, "no page fault yet");
}

Result<> FaultsView::finish(const Snapshot& snapshot) {
    TRY(tick(snapshot));
    return PrintedView::finish(snapshot);
}

}  // namespace memplate::trace
