// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "instance/build.h"
#include "template/intervals.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/proc.h"

namespace memplate::instance {
namespace {

constexpr uint64_t page_size = pool::page_size;

void add_stretch(google::protobuf::RepeatedPtrField<proto::Stretch>& stretches, uint64_t vaddr) {
    if (!stretches.empty()) {
        auto& last = stretches[stretches.size() - 1];
        if (last.vaddr() + last.pages() * page_size == vaddr) {
            last.set_pages(last.pages() + 1);
            return;
        }
    }
    auto* added = stretches.Add();
    added->set_vaddr(vaddr);
    added->set_pages(1);
}

/// Which pages of shared runs a process has written (its own copy is there) or read (the template's
/// page is there; with the neighbours that fault-around brings along, and with engine attached all
/// that may not be lazy). What CRIU has copied counts as written.
Result<proto::ProcessProfile> observe(int proc, pid_t host_pid, const proto::ProcessPages& process,
                                      engine::Kind kind) {
    proto::ProcessProfile profile;
    profile.set_pid(process.pid());
    for (const auto& run : process.runs()) {
        const bool observable =
            run.placement() == proto::PLACEMENT_SHARED ||
            (kind == engine::Kind::attached && run.owner() != proto::OWNER_FILE);
        if (!observable) continue;
        TRY_ASSIGN(const auto states, proc::page_states(proc, host_pid, run.vaddr(), run.pages()));
        for (uint64_t i = 0; i < states.size(); ++i) {
            const auto& state = states[i];
            if (!state.present && !state.swapped) continue;
            const bool written = state.swapped || !state.file_or_shared;
            add_stretch(written ? *profile.mutable_written() : *profile.mutable_read(),
                        run.vaddr() + i * page_size);
        }
    }
    return profile;
}

struct TrialRun {
    double restore_ms = 0;
    double first_answer_ms = 0;
    uint64_t private_pages = 0;
    unsigned requests = 0;
    std::vector<proto::ProcessProfile> processes;
};

Result<TrialRun> try_out(const Context& context, const pool::Pool& pool, const Template& tmpl,
                         const Function& function, const criu::Installation& criu,
                         engine::Kind kind) {
    TRY_ASSIGN(const auto pin, pool.pin(tmpl.record));
    const engine::PrepareOptions options{.keep = engine::Keep::here,
                                         .learning = !tmpl.profile.has_value()};
    TRY_ASSIGN(const auto images, engine::prepare(context, pool, tmpl, kind, options));
    const Source source{tmpl.record.name, images, pin.fd(), tmpl.manifest.gpu()};
    TRY_ASSIGN(auto instance, Instance::prepare(context, function, criu, &source));

    TrialRun run;
    const Stopwatch watch;
    TRY_ASSIGN(const auto launched, instance->restore());
    run.restore_ms = launched.ready_ms;
    TRY(instance->request(function.warmup.front()));
    run.first_answer_ms = watch.milliseconds();
    TRY(instance->warm_up());
    for (const auto& warmup : function.warmup) run.requests += warmup.repeat;

    TRY_ASSIGN(UniqueFd proc, proc::open_host());
    TRY_ASSIGN(const auto pids, instance->host_pids());
    for (const auto& [inside, host] : pids) {
        TRY_ASSIGN(const auto rollup, proc::memory_rollup(proc.get(), host));
        run.private_pages += (rollup.private_clean + rollup.private_dirty) / page_size;
    }
    for (const auto& process : tmpl.manifest.processes()) {
        const auto found = pids.find(static_cast<pid_t>(process.pid()));
        if (found == pids.end()) continue;  // it ended during the warm-up
        TRY_ASSIGN(auto observed, observe(proc.get(), found->second, process, kind));
        run.processes.push_back(std::move(observed));
    }
    return run;
}

}  // namespace

Result<proto::Profile> learn_profile(const Context& context, const pool::Pool& pool,
                                     const Template& tmpl, const Function& function,
                                     const criu::Installation& criu) {
    TRY_ASSIGN(auto choice, engine::choose(tmpl, {}));
    Template without = tmpl;
    without.profile.reset();
    without.record.profile_generation = engine::trial_generation;
    auto before = try_out(context, pool, without, function, criu, choice.kind);
    if (!before && choice.kind == engine::Kind::attached &&
        before.error().kind != ErrorKind::interrupted) {
        // As `run` does: what the module cannot give now is had otherwise.
        auto other = engine::choose(tmpl, {}, Failure(before.error()));
        if (other && other->kind == engine::Kind::mapped) {
            choice = std::move(*other);
            before = try_out(context, pool, without, function, criu, choice.kind);
        }
    }
    if (!before) return Failure(std::move(before.error()));

    proto::Profile profile;
    profile.set_version(profile_version);
    profile.set_created(unix_time());
    profile.set_requests(before->requests);
    for (auto& process : before->processes) *profile.add_processes() = std::move(process);

    Template with = without;
    with.profile = profile;
    with.record.profile_generation = engine::trial_generation + 1;
    auto after = try_out(context, pool, with, function, criu, choice.kind);
    if (!after) return Failure(std::move(after.error()));
    TRY(engine::drop_trial(context, pool, tmpl));

    profile.set_restore_ms_before(before->restore_ms);
    profile.set_restore_ms_after(after->restore_ms);
    profile.set_first_answer_ms_before(before->first_answer_ms);
    profile.set_first_answer_ms_after(after->first_answer_ms);
    profile.set_private_pages_before(before->private_pages);
    profile.set_private_pages_after(after->private_pages);
    return profile;
}

}  // namespace memplate::instance
