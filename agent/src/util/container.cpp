// SPDX-License-Identifier: Apache-2.0
#include "util/container.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "util/container_state.h"
#include "util/fs.h"
#include "util/toml_reader.h"

namespace memplate {
namespace {

constexpr size_t deepest = 12;

bool is_id(std::string_view text) {
    return text.size() >= 32 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

/// One component of a path, given the ones above it.
std::optional<Container> identify_component(std::string_view name, std::string_view above) {
    std::string_view bare = name;
    if (bare.ends_with(".scope")) bare.remove_suffix(6);
    if (bare.find("conmon") != bare.npos) return std::nullopt;
    constexpr std::array<std::pair<std::string_view, const char*>, 7> prefixes = {{
        {"docker-", "docker"},
        {"libpod-payload-", "podman"},
        {"libpod-", "podman"},
        {"cri-containerd-", "kubernetes"},
        {"crio-", "cri-o"},
        {"crun-", "crun"},
        {"runc-", "runc"},
    }};
    const auto container = [](const char* engine, std::string_view id) {
        return Container{engine, std::string(id), "", "", ""};
    };
    for (const auto& [prefix, engine] : prefixes) {
        if (!bare.starts_with(prefix)) continue;
        const std::string_view id = bare.substr(prefix.size());
        if (is_id(id) ||
            ((engine == std::string_view("crun") || engine == std::string_view("runc")) &&
             name.ends_with(".scope") && !id.empty()))
            return container(engine, id);
    }
    if (const size_t at = bare.find(":cri-containerd:"); at != bare.npos)
        return container("kubernetes", bare.substr(at + 16));
    const std::string_view parent = above.substr(above.rfind('/') + 1);
    if (is_id(bare)) {
        if (parent == "docker") return container("docker", bare);
        if (parent == "libpod_parent") return container("podman", bare);
        if (above.find("kubepods") != above.npos) return container("kubernetes", bare);
        return container("containerd", bare);
    }
    if (above == "/default" || above == "/k8s.io") return container("containerd", bare);
    if (above == "/memplate") return container("memplate", bare);
    return std::nullopt;
}

/// All containers of the hierarchy.
void collect(const std::string& root, const std::string& path, size_t depth,
             std::vector<Container>& found) {
    const auto names = list_directory(AT_FDCWD, root + path);
    if (!names || depth > deepest) return;
    for (const std::string& name : *names) {
        const std::string below = path + "/" + name;
        struct stat status{};
        if (::lstat((root + below).c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) continue;
        if (auto container = identify_component(name, path)) {
            container->cgroup = below;
            found.push_back(std::move(*container));
        }
        collect(root, below, depth + 1, found);
    }
}

}  // namespace

std::optional<Container> identify_container(std::string_view cgroup_path) {
    for (std::string_view path = cgroup_path; path.size() > 1;) {
        const size_t slash = path.rfind('/');
        if (slash == path.npos) return std::nullopt;
        if (auto container = identify_component(path.substr(slash + 1), path.substr(0, slash))) {
            container->cgroup = path;
            return container;
        }
        path = path.substr(0, slash);
    }
    return std::nullopt;
}

Result<Container> find_container(const CgroupHierarchy& hierarchy, const std::string& name,
                                 const std::string& root) {
    std::vector<Container> all;
    collect(hierarchy.root, "", 0, all);
    const auto names = known_container_names(root);
    std::vector<Container> exact;
    std::vector<Container> beginning;
    for (Container& container : all) {
        if (const auto known = names.find(container.id); known != names.end())
            container.name = known->second;
        if (container.name == name || container.id == name)
            exact.push_back(container);
        else if (name.size() >= 4 && is_id(container.id) && container.id.starts_with(name))
            beginning.push_back(container);
    }
    std::vector<Container>& found = exact.empty() ? beginning : exact;
    // Cgroups inside a container belong to it.
    const std::vector<Container> matches = found;
    std::erase_if(found, [&](const Container& inner) {
        return std::ranges::any_of(matches, [&](const Container& outer) {
            return inner.id == outer.id && inner.cgroup.starts_with(outer.cgroup + "/");
        });
    });
    if (found.size() == 1) return found.front();
    const std::string shown = printable(name, 80);
    if (found.empty()) {
        for (const auto& [id, known] : names)
            if (known == name || id == name)
                return fail(fmt::format("container {}: it does not run; start it first", shown));
        return fail(
            fmt::format("container {}: no such container of docker, podman, containerd or "
                        "kubernetes runs here; give its id, or --cgroup PATH",
                        shown));
    }
    return fail(ErrorKind::usage,
                fmt::format("container {}: {} containers match, {} and {} among them; give more "
                            "of the id",
                            shown, found.size(), found[0].cgroup, found[1].cgroup));
}

}  // namespace memplate
