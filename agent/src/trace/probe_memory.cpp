// SPDX-License-Identifier: Apache-2.0
#include "memory.skel.h"
#include "trace/probe_parts.h"

namespace memplate::trace {
namespace {

ProbeMethod method(std::string backend, std::string accuracy) {
    return {.what = "memory",
            .backend = std::move(backend),
            .accuracy = std::move(accuracy) + "; peak is the kernel's own, to the byte"};
}

}  // namespace

Attached attach_memory(const Common& common, bool at_any_cost) {
    if (auto exact = load_object<memory_bpf>(common, [](memory_bpf& memory) {
            want(memory.progs.on_try_charge);
            want(memory.progs.on_charge);
            want(memory.progs.on_uncharge);
        }))
        return {std::move(*exact),
                method("page_counter", "every change by a step is told as the kernel makes it")};
    if (at_any_cost) {
        if (auto loaded = load_object<memory_bpf>(
                common, [](memory_bpf& memory) { want(memory.progs.on_lruvec_state); }))
            return {std::move(*loaded),
                    method("mod_memcg_lruvec_state",
                           "changes by a step are told, up to 512 KiB off; the rest is read at "
                           "each drain; page faults cost about 12 % more")};
        if (auto loaded = load_object<memory_bpf>(
                common, [](memory_bpf& memory) { want(memory.progs.on_rss_stat); }))
            return {std::move(*loaded),
                    method("rss_stat",
                           "growth by a step is told, what is given back and the rest is read at "
                           "each drain; page faults cost about 8 % more")};
    }
    return {{},
            method("sweep",
                   "levels are read at each drain: what comes and goes between two "
                   "shows in the peak only")};
}

}  // namespace memplate::trace
