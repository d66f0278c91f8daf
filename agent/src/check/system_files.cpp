// SPDX-License-Identifier: Apache-2.0
#include "check/system_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "util/fs.h"
#include "util/text.h"

namespace memplate::check {
namespace {

constexpr const char* cgroup_root = "sys/fs/cgroup";

bool contains_word(const std::string& text, const std::string& word, char separator) {
    const auto words = split(trim(text), separator);
    return std::ranges::find(words, word) != words.end();
}

}  // namespace

Result<SystemFiles> SystemFiles::open(const std::string& root) {
    TRY_ASSIGN(UniqueFd fd, open_at(AT_FDCWD, root, O_PATH | O_DIRECTORY));
    return SystemFiles(std::move(fd));
}

bool SystemFiles::exists(const std::string& path) const {
    return ::faccessat(root_.get(), path.c_str(), F_OK, 0) == 0;
}

bool SystemFiles::is_character_device(const std::string& path) const {
    struct stat status{};
    return ::fstatat(root_.get(), path.c_str(), &status, 0) == 0 && S_ISCHR(status.st_mode);
}

std::vector<std::string> SystemFiles::names_in(const std::string& path) const {
    return list_directory(root_.get(), path).value_or(std::vector<std::string>{});
}

std::optional<std::string> SystemFiles::mount_options(const std::string& path) const {
    const auto mounts = read_file_at(root_.get(), "proc/self/mounts");
    std::optional<std::string> options;
    if (!mounts) return options;
    for (const std::string& line : split(*mounts, '\n')) {
        // device, mount point, type, options, …
        const auto fields = split(line, ' ');
        if (fields.size() >= 4 && fields[1] == "/" + path) options = fields[3];
    }
    return options;
}

Result<> SystemFiles::writable_mount(const std::string& path) const {
    const auto options = mount_options(path);
    if (options && contains_word(*options, "ro", ',')) return fail("/" + path + " is read-only");
    return {};
}

Result<std::string> SystemFiles::cgroup_version() const {
    const std::string root = cgroup_root;
    if (exists(root + "/cgroup.controllers")) return "v2";
    const auto names = names_in(root);
    const bool v1 = std::ranges::any_of(names, [&](const std::string& name) {
        return exists(root + "/" + name + "/cgroup.procs");
    });
    if (v1) return "v1";
    return fail("no cgroup hierarchy is mounted below /sys/fs/cgroup");
}

Result<std::string> SystemFiles::cgroup_controller(const std::string& name) const {
    TRY_ASSIGN(const std::string version, cgroup_version());
    std::string path = cgroup_root;
    if (version == "v2") {
        TRY_ASSIGN(const std::string controllers,
                   read_file_at(root_.get(), path + "/cgroup.controllers"));
        if (!contains_word(controllers, name, ' '))
            return fail("not among the controllers of /" + path);
    } else {
        path += "/" + name;
        if (!exists(path + "/cgroup.procs")) return fail("not mounted at /" + path);
    }
    TRY(writable_mount(path));
    return fmt::format("cgroup {} at /{}", version, path);
}

}  // namespace memplate::check
