// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "template/inspect.h"
#include "template/intervals.h"

namespace memplate {
namespace {

constexpr uint64_t page_size = pool::page_size;

struct Counts {
    uint64_t same = 0;
    uint64_t changed = 0;
    uint64_t only_a = 0;
    uint64_t only_b = 0;
    Counts& operator+=(const Counts& other) {
        same += other.same;
        changed += other.changed;
        only_a += other.only_a;
        only_b += other.only_b;
        return *this;
    }
    [[nodiscard]] Json json() const {
        return Json{{"same", same}, {"changed", changed}, {"only_a", only_a}, {"only_b", only_b}};
    }
};

/// Finds the run that holds an address; addresses are asked in ascending order.
class RunCursor {
  public:
    explicit RunCursor(const proto::ProcessPages& process) : process_(process) {}
    const proto::Run& at(uint64_t vaddr) {
        while (process_.runs(index_).vaddr() + process_.runs(index_).pages() * page_size <= vaddr)
            ++index_;
        return process_.runs(index_);
    }

  private:
    const proto::ProcessPages& process_;
    int index_ = 0;
};

uint64_t page_of(const proto::Run& run, uint64_t vaddr) {
    return run.page() + (vaddr - run.vaddr()) / page_size;
}

Result<> compare_process(const Template& a, const proto::ProcessPages& pages_a, const Template& b,
                         const proto::ProcessPages& pages_b,
                         std::map<std::string, Counts>& by_owner, Intervals& changed) {
    const Intervals present_a = to_intervals(pages_a.present());
    const Intervals present_b = to_intervals(pages_b.present());
    const Intervals both = intersect(present_a, present_b);
    RunCursor runs_a(pages_a);
    RunCursor runs_b(pages_b);
    std::array<std::byte, page_size> page_a;
    std::array<std::byte, page_size> page_b;
    for (const auto& interval : both) {
        for (uint64_t vaddr = interval.start; vaddr < interval.end; vaddr += page_size) {
            const auto& run_a = runs_a.at(vaddr);
            TRY(a.pages.read(page_of(run_a, vaddr), page_a));
            TRY(b.pages.read(page_of(runs_b.at(vaddr), vaddr), page_b));
            auto& counts = by_owner[std::string(owner_name(run_a.owner()))];
            if (std::memcmp(page_a.data(), page_b.data(), page_size) == 0) {
                ++counts.same;
            } else {
                ++counts.changed;
                append(changed, {vaddr, vaddr + page_size});
            }
        }
    }
    for (const auto& run : pages_a.runs()) {
        const uint64_t end = run.vaddr() + run.pages() * page_size;
        by_owner[std::string(owner_name(run.owner()))].only_a +=
            count_pages(clip(present_a, run.vaddr(), end)) -
            count_pages(clip(both, run.vaddr(), end));
    }
    for (const auto& run : pages_b.runs()) {
        const uint64_t end = run.vaddr() + run.pages() * page_size;
        by_owner[std::string(owner_name(run.owner()))].only_b +=
            count_pages(clip(present_b, run.vaddr(), end)) -
            count_pages(clip(both, run.vaddr(), end));
    }
    return {};
}

}  // namespace

Result<Json> diff_templates(const Template& a, const Template& b) {
    std::map<std::string, Counts> by_owner;
    Json largest = Json::array();
    const proto::ProcessPages nothing;
    std::map<uint32_t, std::pair<const proto::ProcessPages*, const proto::ProcessPages*>> pairs;
    for (const auto& process : a.manifest.processes())
        pairs.try_emplace(process.pid(), &nothing, &nothing).first->second.first = &process;
    for (const auto& process : b.manifest.processes())
        pairs.try_emplace(process.pid(), &nothing, &nothing).first->second.second = &process;

    std::vector<std::pair<uint32_t, Interval>> ranges;
    for (const auto& [pid, pair] : pairs) {
        Intervals changed;
        TRY(compare_process(a, *pair.first, b, *pair.second, by_owner, changed));
        for (const auto& interval : changed) ranges.emplace_back(pid, interval);
    }
    std::ranges::stable_sort(ranges, std::ranges::greater{}, [](const auto& range) {
        return range.second.end - range.second.start;
    });
    constexpr size_t shown = 20;
    for (size_t i = 0; i < std::min(shown, ranges.size()); ++i) {
        const auto& [pid, interval] = ranges[i];
        largest.push_back({{"pid", pid},
                           {"start", fmt::format("{:x}", interval.start)},
                           {"pages", (interval.end - interval.start) / page_size}});
    }
    Counts total;
    Json owners = Json::object();
    for (const auto& [owner, counts] : by_owner) {
        total += counts;
        owners[owner] = counts.json();
    }
    Json json{{"a", a.record.name}, {"b", b.record.name}, {"pages", total.json()}};
    json["by_owner"] = std::move(owners);
    json["largest_changed"] = std::move(largest);
    return json;
}

}  // namespace memplate
