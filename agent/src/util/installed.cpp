// SPDX-License-Identifier: Apache-2.0
#include "util/installed.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

namespace memplate {

Result<std::string> find_installed(const std::string& name, const std::string& folder,
                                   const char* variable, int access) {
    std::vector<std::string> candidates;
    if (const char* named = std::getenv(variable); named != nullptr && *named != '\0') {
        candidates.emplace_back(named);
    } else {
        std::error_code error;
        const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
        if (error) return fail(fmt::format("/proc/self/exe: {}", error.message()));
        const auto beside = self.parent_path();
        candidates.push_back((beside / name).string());
        candidates.push_back((beside.parent_path() / folder / name).string());
    }
    for (const auto& path : candidates)
        if (::access(path.c_str(), access) == 0) return path;
    return fail(fmt::format("{}: not found; install it beside memplate, or set {}",
                            candidates.front(), variable));
}

}  // namespace memplate
