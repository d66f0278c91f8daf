// SPDX-License-Identifier: Apache-2.0
#include "phases.skel.h"
#include "trace/probe_parts.h"

namespace memplate::trace {
namespace {

constexpr const char* own_binary = "/proc/self/exe";

struct PhaseMarks {
    OwnedSkeleton<phases_bpf> skeleton;
    OwnedLink link;
};

}  // namespace

Attached attach_phases(const Common& common) {
    ProbeMethod method{.what = "restores",
                       .backend = "none",
                       .accuracy =
                           "this kernel or this binary has no probes of user programs: the "
                           "phases of a memplate restore are not told"};
    auto marks = std::make_shared<PhaseMarks>();
    auto loaded = load_object<phases_bpf>(common, [](phases_bpf& phases) {
        bpf_program__set_autoattach(phases.progs.on_phase, false);
    });
    if (!loaded) return {{}, std::move(method)};
    marks->skeleton = std::move(*loaded);
    // Of whichever process runs this binary.
    constexpr pid_t any = -1;
    marks->link.reset(bpf_program__attach_usdt(marks->skeleton->progs.on_phase, any, own_binary,
                                               "memplate", "phase", nullptr));
    if (!marks->link) return {{}, std::move(method)};
    method.backend = "usdt";
    method.accuracy = "marks set by this same binary while it restores";
    return {std::move(marks), std::move(method)};
}

}  // namespace memplate::trace
