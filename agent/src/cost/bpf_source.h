// SPDX-License-Identifier: Apache-2.0
//
// Samples told by the kernel's own events (trace/probes.h), and the choice between them and
// polling.
#pragma once

#include "cost/memory_source.h"
#include "util/context.h"

namespace memplate::cost {

enum class Backend {
    automatic,  ///< bpf where the kernel tells every change as it makes it, else poll
    bpf,
    poll,
};

/// bpf: unsupported where no program loads. automatic: on kernels that refuse the exact programs,
/// reading every millisecond is better than what is left: the others make page faults up to 12 %
/// dearer (measured on Linux 6.18), and the maximum is the kernel's watermark either way.
[[nodiscard]] Result<std::unique_ptr<MemorySource>> memory_source(
    const Context& context, Backend backend, const MemoryCgroup& cgroup,
    std::chrono::microseconds interval);

}  // namespace memplate::cost
