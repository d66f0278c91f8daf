// SPDX-License-Identifier: Apache-2.0
#include "trace/tracker.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>

namespace memplate::trace {
namespace {

std::string file_name(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
}

/// `runc init` executes itself through a descriptor; its stages name themselves.
bool is_runc_init(const Event& event) {
    const std::string& file = event.text;
    return event.command == "runc" || event.command.starts_with("runc:[") ||
           file_name(file) == "runc" || file == "/proc/self/exe" ||
           file.starts_with("/proc/self/fd/") || file.starts_with("/dev/fd/");
}

/// In a pid namespace, and not its first process: a hook, or a helper of the runtime.
bool is_helper(const Event& event) {
    return event.inner_pid != 1 && event.inner_pid != event.pid;
}

/// Runtimes put containers wherever they are told to; without a path of their own the last part of
/// it is, as a rule, their name.
void name_by_path(Container& container, const std::string& runtime) {
    if (container.engine != "cgroup") return;
    container.engine = runtime;
    container.id = container.name = file_name(container.cgroup);
}

enum class Executed { entrypoint, runc, helper };
Executed classify(const Life& life, const Event& event) {
    const std::string& engine = life.member->container.engine;
    if (engine == "memplate") {
        // Its keeper, and CRIU with the loader beside it, are brought along.
        const bool brought = event.text.starts_with("/run/memplate/") ||
                             file_name(event.text).starts_with("memplate") ||
                             file_name(event.text) == "criu";
        return brought ? Executed::helper : Executed::entrypoint;
    }
    if (event.command.starts_with("runc:[2:INIT]")) return Executed::entrypoint;
    if (life.runtime == "runc") {
        if (event.inner_pid == 1) return Executed::entrypoint;
        return is_runc_init(event) || is_helper(event) ? Executed::helper : Executed::entrypoint;
    }
    if (is_runc_init(event)) return Executed::runc;
    const bool plain = engine == "cgroup" || engine == "systemd";
    return !plain && is_helper(event) ? Executed::helper : Executed::entrypoint;
}

std::string describe_status(uint64_t value) {
    const int status = static_cast<int>(value);
    if (WIFSIGNALED(status)) {
        const char* name = ::sigabbrev_np(WTERMSIG(status));
        return fmt::format("killed by SIG{}", name != nullptr ? name : "?");
    }
    return fmt::format("exit status {}", WEXITSTATUS(status));
}

}  // namespace

const Phase* Life::phase(std::string_view name) const {
    const auto found = std::ranges::find(phases, name, &Phase::name);
    return found == phases.end() ? nullptr : &*found;
}

std::optional<Life::Peak> Life::peak_since_entry() const {
    if (entered_ns == 0) return std::nullopt;
    // A watermark that rose after the exec was reached after the exec.
    if (peak_at_entry && memory.peak > *peak_at_entry) return Peak{memory.peak, true};
    return Peak{largest_since_entry, false};
}

std::string Life::state() const {
    return phases.empty() || !begun ? "running" : phases.back().name;
}

Life& Tracker::life_of(const std::shared_ptr<Member>& member) {
    auto& life = lives_[member.get()];
    if (!life) {
        life = std::make_shared<Life>();
        life->member = member;
        life->command = member->command;
    }
    return *life;
}

void Tracker::add(Life& life, std::string name, int64_t time_ns, std::string detail) {
    life.phases.push_back({std::move(name), time_ns, std::move(detail)});
    if (life.begun) {
        const Phase phase = life.phases.back();  // the sink may look at the life
        sink_(lives_.at(life.member.get()), phase);
    }
}

void Tracker::add_first(Life& life, const char* name, const Event& event, std::string detail) {
    // Of one that ran before, the first was not seen.
    if (!life.begun || life.ended_ns != 0 || life.phase(name) != nullptr) return;
    add(life, name, event.time_ns, std::move(detail));
}

void Tracker::begin(const std::shared_ptr<Member>& member, const Event& event) {
    const bool again = lives_.at(member.get())->ended_ns != 0 && event.kind == EventKind::joined;
    if (again) {  // a cgroup that is used once more: another start
        const MemoryState memory = lives_.at(member.get())->memory;
        lives_.erase(member.get());
        life_of(member).memory = memory;
    }
    Life& life = *lives_.at(member.get());
    const bool ran_before = member->occupied && life.phases.empty() && !again;
    if (life.begun || ran_before) return;
    life.begun = true;
    member->occupied = true;
    if (life.born_ns == 0) life.born_ns = event.time_ns;
    if (event.command == "runc" || event.command == "crun") {
        life.runtime = event.command;
        name_by_path(member->container, event.command);
    }
    for (const Phase& phase : std::vector(life.phases)) sink_(lives_.at(member.get()), phase);
    if (event.kind != EventKind::restore_phase) add(life, "joined", event.time_ns, event.command);
}

void Tracker::enter(Life& life, const Event& event) {
    life.entered_ns = event.time_ns;
    if (event.peak != 0) life.peak_at_entry = event.peak;
    life.largest_since_entry = event.bytes;
}

void Tracker::executed(Life& life, const Event& event) {
    if (!life.begun || life.entered_ns != 0 || life.ended_ns != 0) return;
    const Executed what = classify(life, event);
    if (what == Executed::runc) {
        life.runtime = "runc";
        name_by_path(life.member->container, "runc");
    }
    if (what != Executed::entrypoint) {
        // Of the runtime's only the first: the others are too quick to matter.
        if (life.phase("runtime") == nullptr)
            add(life, "runtime", event.time_ns, is_runc_init(event) ? "runc init" : event.text);
        return;
    }
    life.command = event.text;
    life.entry_pid = event.pid;
    enter(life, event);
    add(life, "exec", event.time_ns, event.text);
}

void Tracker::end(Life& life, int64_t time_ns, std::string detail) {
    if (life.ended_ns != 0) return;
    life.ended_ns = time_ns;
    if (life.begun) add(life, "ended", time_ns, std::move(detail));
}

void Tracker::exited(Life& life, const Event& event) {
    if (!life.begun) return;
    life.processes.erase(event.pid);
    // Without an exec, of a restored tree, the first process of the namespace stands for all.
    if (life.entry_pid != 0 ? event.pid == life.entry_pid
                            : life.entered_ns != 0 && event.inner_pid == 1)
        life.exit_status = describe_status(event.value);
    if (life.entered_ns == 0) return;
    // With the first process of a pid namespace the others end; elsewhere they may go on.
    const bool all = !life.exit_status.empty() && event.inner_pid == 1 && event.pid != 1;
    if (all || life.processes.empty()) end(life, event.time_ns, life.exit_status);
}

void Tracker::handle(const std::shared_ptr<Member>& member, const Event& event) {
    Life& life = life_of(member);
    const bool own = event.cgroup == member->cgroup;
    if (own && (event.bytes != 0 || event.peak != 0))
        level(member, {event.cgroup, event.bytes, event.peak, event.inactive_file}, event.time_ns);
    switch (event.kind) {
        case EventKind::cgroup_made:
            if (!own || life.begun) return;
            life.born_ns = event.time_ns;
            return add(life, "made", event.time_ns, member->container.cgroup);
        case EventKind::cgroup_gone:
            if (own) removed(member, event.time_ns);
            return;
        case EventKind::joined:
        case EventKind::forked:
        case EventKind::executed: {
            begin(member, event);
            Life& now = *lives_.at(member.get());  // it may have begun anew
            if (now.begun) now.processes.insert(event.pid);
            if (event.kind == EventKind::executed) executed(now, event);
            return;
        }
        case EventKind::listening:
            return add_first(life, "listening", event, fmt::format("port {}", event.value));
        case EventKind::accepted:
            return add_first(life, "accepted", event, fmt::format("port {}", event.value));
        case EventKind::answered:
            return add_first(life, "answered", event, fmt::format("port {}", event.value));
        case EventKind::restore_phase:
            begin(member, event);
            if (event.text == "resume") enter(life, event);
            if (life.begun) add(life, event.text, event.time_ns);
            return;
        case EventKind::exited:
            return exited(life, event);
        case EventKind::level:
            return;
    }
}

void Tracker::level(const std::shared_ptr<Member>& member, const MemoryLevel& level,
                    int64_t time_ns) {
    Life& life = life_of(member);
    life.memory.peak = std::max({life.memory.peak, level.peak, level.bytes});
    if (level.bytes == 0 && level.peak != 0) return;  // a watermark alone: of an end
    life.memory.time_ns = time_ns;
    life.memory.bytes = level.bytes;
    life.memory.inactive_file = level.inactive_file;
    if (life.entered_ns != 0)
        life.largest_since_entry = std::max(life.largest_since_entry, level.bytes);
}

void Tracker::removed(const std::shared_ptr<Member>& member, int64_t time_ns) {
    const auto found = lives_.find(member.get());
    if (found == lives_.end()) return;
    Life& life = *found->second;
    if (life.removed) return;
    end(life, time_ns, "cgroup removed");
    life.removed = true;
    life.memory.bytes = 0;
}

void Tracker::forget(int64_t before_ns) {
    std::erase_if(lives_, [&](const auto& entry) {
        const Life& life = *entry.second;
        return life.removed && life.ended_ns < before_ns;
    });
}

}  // namespace memplate::trace
