// SPDX-License-Identifier: Apache-2.0
#include "start.skel.h"
#include "trace/probe_parts.h"

namespace memplate::trace {

Result<Attached> attach_start(Common& common) {
    TRY_ASSIGN(auto skeleton, load_object<start_bpf>(common, [&](start_bpf& start) {
                   if (common.settings.tell_start == 0) return;
                   want(start.progs.on_exec);
                   want(start.progs.on_exit);
                   want(start.progs.on_socket_state);
               }));
    take_maps(skeleton->obj, common);
    return Attached{.programs = std::move(skeleton),
                    .method = {.what = "start",
                               .backend = "tracepoints",
                               .accuracy = "stamped by the kernel as it happens; `accepted` is the "
                                           "moment the connection is there for accept()"}};
}

}  // namespace memplate::trace
