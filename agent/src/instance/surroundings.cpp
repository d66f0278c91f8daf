// SPDX-License-Identifier: Apache-2.0
#include "instance/surroundings.h"

#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "instance/gpu.h"

namespace memplate::instance {
namespace {

/// The host's directory that must be bound into a sandbox over "/" for `path` to be found there:
/// sandboxes have a /tmp, /run and /dev of their own, and the overlay shows no other file system.
/// Below those three it is their first entry, so that what lies beside `path` is found too.
std::optional<std::string> hidden_directory(const std::string& path) {
    for (const std::string_view own : {"/tmp/", "/run/", "/dev/shm/"}) {
        if (path.starts_with(own)) return path.substr(0, path.find('/', own.size()));
    }
    struct stat directory{};
    struct stat root{};
    if (::stat(path.c_str(), &directory) != 0 || ::stat("/", &root) != 0) return std::nullopt;
    if (directory.st_dev == root.st_dev) return std::nullopt;
    return path;
}

}  // namespace

std::vector<std::string> environment_of(const Function& function) {
    std::vector<std::string> environment{
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
        "LANG=C.UTF-8"};
    environment.insert(environment.end(), function.environment.begin(), function.environment.end());
    if (!function.gpu) return environment;
    constexpr std::string_view path = "LD_LIBRARY_PATH=";
    const auto given = std::ranges::find_if(
        environment, [&](const std::string& entry) { return entry.starts_with(path); });
    std::string folders(driver_folder);
    if (given != environment.end()) {
        // An empty entry of the list would be the working directory.
        if (given->size() > path.size()) folders += ":" + given->substr(path.size());
        environment.erase(given);
    }
    environment.push_back(fmt::format("{}{}", path, folders));
    return environment;
}

std::vector<sandbox::Bind> binds_of(const Function& function) {
    std::vector<sandbox::Bind> binds;
    std::vector<std::string> paths{function.directory};
    if (const auto& program = function.command.front(); program.starts_with('/'))
        paths.push_back(program.substr(0, program.rfind('/') + 1));
    if (function.root != "/") paths.clear();
    for (const std::string& path : paths) {
        const auto hidden = hidden_directory(path);
        if (hidden && std::ranges::find(binds, *hidden, &sandbox::Bind::source) == binds.end())
            binds.push_back({*hidden, *hidden, false});
    }
    // Last: they may lie within one of those.
    for (const auto& bind : function.binds)
        binds.push_back({bind.source, bind.target, bind.writable});
    return binds;
}

}  // namespace memplate::instance
