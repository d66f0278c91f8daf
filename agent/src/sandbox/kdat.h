// SPDX-License-Identifier: Apache-2.0
//
// CRIU's cache of what it found out about the kernel. A CRIU that finds none in /run probes for
// 10 to 30 ms; every sandbox has its own /run, so each gets a copy of one kept on the host. CRIU
// does not check that the file fits the kernel: the name of the copy says what it is valid for.
#pragma once

#include <optional>
#include <string>

#include "sandbox/sandbox.h"

namespace memplate::sandbox {

/// Where the copy for this boot of this kernel and the CRIU at `criu_root` is, or would be.
Result<std::string> warm_kdat_path(const Context& context, const std::string& criu_root);

/// Keeps the cache of a sandbox in which nothing but CRIU has run: whatever else runs there could
/// have written it. Older copies are removed.
Result<> save_kdat(const Context& context, const std::string& criu_root, const Sandbox& sandbox);

/// Makes a CRIU just started in a sandbox write its cache, and waits until it has.
Result<> probe_kernel(const UniqueFd& criu_socket);

}  // namespace memplate::sandbox
