// SPDX-License-Identifier: Apache-2.0
#include "trace/session.h"

#include <sys/stat.h>

#include <algorithm>
#include <thread>
#include <tuple>

namespace memplate::trace {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds drain_interval(20);
constexpr milliseconds wait_for_name(300);
constexpr size_t most_held = 20000;

/// steady_clock is CLOCK_MONOTONIC, as the events' times are.
int64_t nanoseconds(steady_clock::time_point time) {
    return std::chrono::nanoseconds(time.time_since_epoch()).count();
}

bool is_pattern(const std::string& text) {
    return text.find_first_of("*?[") != text.npos;
}

struct ExactCgroup {
    std::string path;
    uint64_t id = 0;
};

Result<ExactCgroup> find_cgroup(const CgroupHierarchy& hierarchy, const std::string& given) {
    std::string path = given.starts_with(hierarchy.root + "/")
                           ? given.substr(hierarchy.root.size())
                           : (given.starts_with('/') ? "" : "/") + given;
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    struct stat status{};
    if (::stat((hierarchy.root + path).c_str(), &status) != 0 || !S_ISDIR(status.st_mode))
        return fail(
            fmt::format("cgroup {}: {} has no memory cgroup of that path; give one as in "
                        "/proc/PID/cgroup, or a pattern for those to come",
                        given, hierarchy.root));
    return ExactCgroup{path, path == "/" ? 0 : status.st_ino};
}

}  // namespace

Session::Session(std::unique_ptr<Probes> probes, CgroupHierarchy hierarchy,
                 Resolver::Options resolver, SessionOptions options, uint64_t only_cgroup)
    : probes_(std::move(probes)),
      options_(std::move(options)),
      registry_(std::move(hierarchy)),
      resolver_(std::move(resolver)),
      tracker_([this](const std::shared_ptr<Life>& life, const Phase& phase) {
          held_.push_back({life, phase, steady_clock::now()});
          // What instances are made from is written down when they are ready.
          if (phase.name == "ready") resolver_.ask(life->member);
      }),
      only_cgroup_(only_cgroup) {
    if (only_cgroup_ != 0) registry_.pin(options_.filter.cgroups.front());
    registry_.walk();
}

Result<std::unique_ptr<Session>> Session::open(const Context& context, SessionOptions options) {
    TRY_ASSIGN(const auto hierarchy, CgroupHierarchy::find());
    ProbeOptions probe{.memory = options.memory, .faults = options.faults};
    std::vector<std::string>& cgroups = options.filter.cgroups;
    for (std::string& given : cgroups) {
        if (is_pattern(given)) continue;
        TRY_ASSIGN(const ExactCgroup exact, find_cgroup(hierarchy, given));
        given = exact.path;
        if (cgroups.size() == 1) probe.below_cgroup = exact.id;
    }
    // Attached first: what is made during the walk is then told of.
    TRY_ASSIGN(auto probes, Probes::attach(context, probe));
    Resolver::Options resolver{.hierarchy = hierarchy,
                               .instances = context.settings.state_dir + "/instances",
                               .commands = !options.filter.commands.empty()};
    return std::make_unique<Session>(std::move(probes), hierarchy, std::move(resolver),
                                     std::move(options), probe.below_cgroup);
}

void Session::handle(const Event& event) {
    if (event.kind == EventKind::cgroup_made) registry_.made(event.cgroup, event.text);
    if (event.kind == EventKind::cgroup_gone && event.cgroup == only_cgroup_) only_gone_ = true;
    if (const auto member = registry_.find(event.cgroup)) {
        tracker_.handle(member, event);
        if (event.kind == EventKind::level && event.cgroup == member->cgroup)
            changed_.push_back(tracker_.lives().at(member.get()));
    }
    if (event.kind == EventKind::cgroup_gone) registry_.gone(event.cgroup);
}

Result<> Session::drain(View& view) {
    TRY(probes_->drain([&](const Event& event) { handle(event); }));
    for (const auto& member : registry_.take_new()) resolver_.ask(member);
    resolver_.answer();
    TRY(flush(view, false));
    for (const auto& life : std::exchange(changed_, {}))
        if (shown(*life)) TRY(view.level(*life));
    return {};
}

Result<> Session::flush(View& view, bool last) {
    const auto now = steady_clock::now();
    std::deque<Held> waiting;
    for (Held& held : std::exchange(held_, {})) {
        Life& life = *held.life;
        const Member& member = *life.member;
        const bool named = member.resolved || !member.container.name.empty() ||
                           member.container.engine == "memplate";
        const auto answer = options_.filter.matches(member, life.command);
        const bool too_many = waiting.size() >= most_held;
        const bool wait = answer == Filter::Answer::unknown ||
                          (!named && !life.told && now - held.since < wait_for_name);
        if (answer != Filter::Answer::no && wait && !last && !too_many) {
            waiting.push_back(std::move(held));
            continue;
        }
        if (answer != Filter::Answer::yes) continue;
        life.told = true;
        TRY(view.phase(life, held.phase));
    }
    held_ = std::move(waiting);
    return {};
}

Result<> Session::sweep(int64_t now_ns) {
    TRY_ASSIGN(const auto levels, probes_->sweep());
    const auto owner = [&](const MemoryLevel& level) { return registry_.find(level.cgroup); };
    for (const MemoryLevel& level : levels) (void)owner(level);
    if (registry_.unknown()) registry_.walk();
    std::set<uint64_t> seen;
    for (const MemoryLevel& level : levels) {
        seen.insert(level.cgroup);
        if (const auto member = owner(level); member && member->cgroup == level.cgroup) {
            tracker_.level(member, level, now_ns);
            changed_.push_back(tracker_.lives().at(member.get()));
        }
    }
    // Removals that nobody told of, because events were lost.
    std::vector<std::shared_ptr<Member>> missing;
    for (const auto& [id, member] : registry_.members())
        if (!seen.contains(id) && !registry_.exists(*member)) missing.push_back(member);
    for (const auto& member : missing) {
        tracker_.removed(member, now_ns);
        registry_.gone(member->cgroup);
        if (member->cgroup == only_cgroup_) only_gone_ = true;
    }
    tracker_.forget(now_ns - std::chrono::nanoseconds(options_.keep_ended).count());
    return {};
}

bool Session::shown(const Life& life) const {
    const Member& member = *life.member;
    if (!life.begun && !member.occupied) return false;
    const std::string& command = life.command.empty() ? member.command : life.command;
    return options_.filter.matches(member, command) == Filter::Answer::yes;
}

Result<Snapshot> Session::snapshot(int64_t now_ns) {
    Snapshot snapshot;
    snapshot.time_ns = now_ns;
    snapshot.lost = probes_->lost();
    for (const auto& [member, life] : tracker_.lives())
        if (shown(*life)) snapshot.lives.push_back(life);
    if (!options_.faults) return snapshot;
    TRY_ASSIGN(const auto counts, probes_->faults());
    // Cgroups inside a container count to it.
    std::map<std::tuple<const Life*, uint32_t, FaultCount::Backing, FaultCount::Kind, bool>, size_t>
        rows;
    for (const FaultCount& count : counts) {
        auto& life = owners_[count.cgroup];
        if (!life) {
            const auto member = registry_.find(count.cgroup);
            const auto found =
                member ? tracker_.lives().find(member.get()) : tracker_.lives().end();
            if (found == tracker_.lives().end()) continue;
            life = found->second;
        }
        if (!shown(*life)) continue;
        const auto [row, fresh] =
            rows.try_emplace({life.get(), count.device, count.backing, count.kind, count.write},
                             snapshot.faults.size());
        if (fresh)
            snapshot.faults.push_back({life, count});
        else
            snapshot.faults[row->second].count.count += count.count;
    }
    return snapshot;
}

Result<SessionEnd> Session::run(View& view, const std::stop_token& stop) {
    const auto started = steady_clock::now();
    TRY(view.begin(probes_->methods()));
    auto next_tick = started;
    std::optional<SessionEnd> end;
    for (;;) {
        TRY(drain(view));
        const auto now = steady_clock::now();
        if (stop.stop_requested())
            end = SessionEnd::stopped;
        else if (only_gone_)
            end = SessionEnd::cgroup_gone;
        else if (options_.at_most.count() > 0 && now - started >= options_.at_most)
            end = SessionEnd::time_is_up;
        if (end) break;
        if (now >= next_tick) {
            TRY(sweep(nanoseconds(now)));
            TRY_ASSIGN(const Snapshot current, snapshot(nanoseconds(now)));
            TRY(view.tick(current));
            // A tick that was missed is not made up for.
            while (next_tick <= now) next_tick += options_.interval;
        }
        std::this_thread::sleep_until(std::min(now + drain_interval, next_tick));
    }
    const int64_t now_ns = nanoseconds(steady_clock::now());
    TRY(sweep(now_ns));
    TRY(drain(view));
    TRY(flush(view, true));
    TRY_ASSIGN(const Snapshot all, snapshot(now_ns));
    TRY(view.finish(all));
    return *end;
}

}  // namespace memplate::trace
