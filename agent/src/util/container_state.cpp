// SPDX-License-Identifier: Apache-2.0
#include "util/container_state.h"

#include <fcntl.h>

#include <algorithm>
#include <array>

#include "util/fs.h"
#include "util/json.h"

namespace memplate {
namespace {

constexpr std::array<const char*, 4> storage_drivers = {"overlay", "vfs", "btrfs", "zfs"};
constexpr size_t largest_state = size_t{16} << 20;

/// Null if there is no such file, or no JSON in it.
Json read_json(const std::string& path) {
    const auto text = read_file(path, largest_state);
    return text ? Json::parse(*text, nullptr, false) : Json();
}

/// The text at a path of keys, or "".
std::string text_at(const Json& json, std::initializer_list<const char*> keys) {
    const Json* at = &json;
    for (const char* key : keys) {
        if (!at->is_object() || !at->contains(key)) return "";
        at = &(*at)[key];
    }
    return at->is_string() ? at->get<std::string>() : "";
}

std::string first_of(std::initializer_list<std::string> texts) {
    for (const std::string& text : texts)
        if (!text.empty()) return text;
    return "";
}

std::string docker_name(const Json& config) {
    const std::string name = text_at(config, {"Name"});  // "/web"
    return name.substr(name.starts_with('/') ? 1 : 0);
}

/// Every container that podman or CRI-O keeps in its storage.
void for_each_stored(const std::string& root, const std::function<void(const Json&)>& visit) {
    for (const char* driver : storage_drivers) {
        for (const char* file : {"containers.json", "volatile-containers.json"}) {
            const Json list = read_json(
                fmt::format("{}/var/lib/containers/storage/{}-containers/{}", root, driver, file));
            if (!list.is_array()) continue;
            for (const Json& one : list)
                if (!text_at(one, {"id"}).empty()) visit(one);
        }
    }
}

std::string stored_name(const Json& one) {
    if (!one.contains("names")) return "";
    const Json& names = one["names"];
    return names.is_array() && !names.empty() && names[0].is_string() ? names[0].get<std::string>()
                                                                      : "";
}

/// "POD/CONTAINER" and image, from the annotations of an OCI bundle.
void describe_bundle(Container& container, const Json& config) {
    const auto note = [&](const char* key) { return text_at(config, {"annotations", key}); };
    const std::string pod =
        first_of({note("io.kubernetes.cri.sandbox-name"), note("io.kubernetes.pod.name")});
    const std::string own = first_of({note("io.kubernetes.cri.container-name"),
                                      note("io.kubernetes.container.name"), note("nerdctl/name")});
    if (!pod.empty())
        container.name = pod + "/" + (own.empty() ? "sandbox" : own);
    else if (!own.empty())
        container.name = own;
    container.image =
        first_of({note("io.kubernetes.cri.image-name"), note("io.kubernetes.cri-o.ImageName"),
                  note("org.opencontainers.image.ref.name")});
}

void describe_stored(Container& container, const std::string& root) {
    for_each_stored(root, [&](const Json& one) {
        if (text_at(one, {"id"}) != container.id) return;
        container.name = stored_name(one);
        // A JSON document inside a string.
        const Json metadata = Json::parse(text_at(one, {"metadata"}), nullptr, false);
        container.image = text_at(metadata, {"image-name"});
        if (const std::string pod = text_at(metadata, {"pod-name"}); !pod.empty())
            container.name =
                pod + "/" + first_of({text_at(metadata, {"metadata-name"}), container.name});
    });
}

void describe_containerd(Container& container, const std::string& root) {
    const std::string tasks = root + "/run/containerd/io.containerd.runtime.v2.task";
    const auto spaces = list_directory(AT_FDCWD, tasks);
    if (!spaces) return;
    for (const std::string& space : *spaces) {
        const Json config =
            read_json(fmt::format("{}/{}/{}/config.json", tasks, space, container.id));
        if (config.is_object()) return describe_bundle(container, config);
    }
}

/// Whether a state file names this cgroup: "/NAME", or the whole path of the directory.
bool names_cgroup(const Json& state, const std::string& cgroup) {
    const auto matches = [&](const std::string& path) {
        return path == cgroup || path == cgroup.substr(1) || path.ends_with("/cgroup" + cgroup) ||
               path.ends_with("/cgroup/memory" + cgroup);
    };
    if (matches(text_at(state, {"cgroup-path"}))) return true;  // crun
    return matches(text_at(state, {"cgroup_paths", "memory"})) ||
           matches(text_at(state, {"cgroup_paths", ""}));
}

/// runc and crun put containers wherever they are told to: their state files say where.
void find_in_runtime_state(Container& container, const std::string& root) {
    struct Runtime {
        const char* engine;
        const char* file;
    };
    constexpr std::array<Runtime, 2> runtimes = {{{"runc", "state.json"}, {"crun", "status"}}};
    for (const Runtime& runtime : runtimes) {
        const std::string folder = fmt::format("{}/run/{}", root, runtime.engine);
        const auto ids = list_directory(AT_FDCWD, folder);
        if (!ids) continue;
        for (const std::string& id : *ids) {
            const Json state = read_json(fmt::format("{}/{}/{}", folder, id, runtime.file));
            if (!state.is_object() || !names_cgroup(state, container.cgroup)) continue;
            container.engine = runtime.engine;
            container.id = id;
            container.name = id;
            std::string bundle = text_at(state, {"bundle"});
            if (const Json labels = state.value(Json::json_pointer("/config/labels"), Json());
                labels.is_array()) {
                for (const Json& label : labels)
                    if (label.is_string() && label.get<std::string>().starts_with("bundle="))
                        bundle = label.get<std::string>().substr(7);
            }
            if (!bundle.empty()) describe_bundle(container, read_json(bundle + "/config.json"));
            return;
        }
    }
}

}  // namespace

std::map<std::string, std::string> known_container_names(const std::string& root) {
    std::map<std::string, std::string> names;
    const std::string docker = root + "/var/lib/docker/containers";
    if (const auto ids = list_directory(AT_FDCWD, docker)) {
        for (const std::string& id : *ids) {
            const std::string name = docker_name(read_json(docker + "/" + id + "/config.v2.json"));
            if (!name.empty()) names[id] = name;
        }
    }
    for_each_stored(root, [&](const Json& one) {
        if (const std::string name = stored_name(one); !name.empty())
            names[text_at(one, {"id"})] = name;
    });
    return names;
}

void describe_container(Container& container, const std::string& instances,
                        const std::string& root) {
    const std::string& engine = container.engine;
    if (engine == "docker") {
        const Json config = read_json(
            fmt::format("{}/var/lib/docker/containers/{}/config.v2.json", root, container.id));
        container.name = docker_name(config);
        container.image = text_at(config, {"Config", "Image"});
    } else if (engine == "podman" || engine == "cri-o") {
        describe_stored(container, root);
    } else if (engine == "containerd" || engine == "kubernetes") {
        describe_containerd(container, root);
        if (container.name.empty()) describe_stored(container, root);  // CRI-O on cgroup v1
    } else if (engine == "memplate") {
        container.image = text_at(
            read_json(fmt::format("{}/{}/state.json", instances, container.id)), {"template"});
    }
    if (container.name.empty() && container.image.empty() && engine != "memplate")
        find_in_runtime_state(container, root);
}

}  // namespace memplate
