// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "util/context.h"

namespace memplate::criu {

/// A CRIU that can be run: a directory with usr/sbin/criu and its libraries, started through that
/// directory's own dynamic loader, so that a build of another Debian release runs too.
struct Installation {
    std::string root;  ///< "/" or where scripts/install-deps extracted it
    int version = 0;   ///< major * 10000 + minor * 100 + sublevel: 4.2.1 → 40201
    std::string version_text;

    /// argv prefix that starts it when the root is mounted at `root` ("/run/memplate/criu" inside
    /// a sandbox).
    [[nodiscard]] static std::vector<std::string> command(const std::string& root);

    /// settings.criu_root if set; else the distribution's if it works on this kernel, else the
    /// extracted one. "Works" is `criu check`, remembered per kernel release and binary in
    /// state_dir. ErrorKind::unsupported with the fix if there is none.
    static Result<Installation> find(const Context& context);
};

/// Exit code and combined output of `criu ARGS`, run on the host.
struct RunResult {
    int exit_code = 0;
    std::string output;
};
[[nodiscard]] Result<RunResult> run(const std::string& root, const std::vector<std::string>& args);

}  // namespace memplate::criu
