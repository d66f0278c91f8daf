// SPDX-License-Identifier: Apache-2.0
//
// The configuration file: /etc/memplate/config.toml, then /etc/memplate/config.d/*.toml in name
// order, each overriding the ones before; MEMPLATE_CONFIG names another main file (and then no
// drop-ins are read). Command-line flags override all.
#pragma once

#include <string>
#include <vector>

#include "util/result.h"

namespace memplate {

struct Settings {
    /// Instances, locks and logs of this host.
    std::string state_dir = "/run/memplate";
    /// Restore-ready image directories. Default: state_dir/cache if that is a tmpfs, else
    /// /dev/shm/memplate.
    std::string cache_dir;
    /// A directory that holds usr/sbin/criu with its libraries. Default: "/" if the distribution's
    /// criu passes `criu check`, else the build that scripts/install-deps extracted
    /// (~/.cache/memplate/criu).
    std::string criu_root;
    std::string bridge = "memplate0";
    /// IPv4 network for instances, CIDR; the bridge takes the first address.
    std::string subnet = "10.213.0.0/16";
    /// Templates of at least this size deliver pages that their profile saw neither read nor
    /// written at the first touch (engine attached).
    std::string lazy_above = "1G";
    /// Seconds that a template stays in the module after its last use (engine attached).
    std::string hold_seconds = "60";

    /// Reads the files above. A missing main file is fine unless MEMPLATE_CONFIG names it. Unknown
    /// keys and wrong types are errors that name file, line and key (kind usage).
    static Result<Settings> load();
    /// The same from `directory`/config.toml and `directory`/config.d/*.toml.
    static Result<Settings> load_directory(const std::string& directory);
    /// What an empty cache_dir stands for.
    static std::string default_cache_dir(const std::string& state_dir);
    /// A commented configuration file with every key at its default.
    static std::string documentation();
};

}  // namespace memplate
