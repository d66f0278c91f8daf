// SPDX-License-Identifier: Apache-2.0
#include "trace/registry.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>

#include "util/fs.h"

namespace memplate::trace {
namespace {

constexpr unsigned deepest = 16;
constexpr size_t most_removed = 65536;  // far more than events can be late

bool is_unit(std::string_view name) {
    constexpr std::array<std::string_view, 5> suffixes = {".service", ".scope", ".socket", ".mount",
                                                          ".swap"};
    for (const std::string_view suffix : suffixes)
        if (name.size() > suffix.size() && name.ends_with(suffix)) return true;
    return false;
}

bool has_processes(const std::string& directory) {
    const auto text = read_file(directory + "/cgroup.procs");
    return text && !text->empty();
}

}  // namespace

std::string Member::name() const {
    if (!container.name.empty()) return container.name;
    if (container.id.empty()) return container.cgroup;
    const bool hexadecimal =
        container.id.find_first_not_of("0123456789abcdef") == container.id.npos;
    return hexadecimal && container.id.size() >= 32 ? container.id.substr(0, 12) : container.id;
}

std::string Member::group() const {
    return container.image.empty() ? name() : container.image;
}

Container container_of(const std::string& cgroup_path) {
    if (auto container = identify_container(cgroup_path)) return std::move(*container);
    for (std::string_view path = cgroup_path; path.size() > 1;) {
        const size_t slash = path.rfind('/');
        if (slash == path.npos) break;
        const std::string_view unit = path.substr(slash + 1);
        if (is_unit(unit))
            return {"systemd", std::string(unit), std::string(unit), std::string(path), ""};
        path = path.substr(0, slash);
    }
    return {"cgroup", "", "", cgroup_path, ""};
}

Container Registry::container_at(const std::string& path) const {
    Container container = container_of(path);
    const bool inside = path == pinned_ || path.starts_with(pinned_ + "/");
    if (!pinned_.empty() && inside && container.cgroup.size() < pinned_.size())
        return {"cgroup", "", "", pinned_, ""};
    return container;
}

Registry::Node& Registry::add(uint64_t cgroup, const std::string& path) {
    Node& node = nodes_[cgroup];
    node.path = path;
    ids_[path] = cgroup;
    Container container = container_at(path);
    uint64_t own = cgroup;
    if (container.cgroup != path) {  // it lies inside
        struct stat status{};
        if (const auto id = ids_.find(container.cgroup); id != ids_.end())
            own = id->second;
        else if (::stat((hierarchy_.root + container.cgroup).c_str(), &status) == 0)
            own = status.st_ino;
    }
    auto& member = members_[own];
    if (!member) {
        member = std::make_shared<Member>();
        member->cgroup = own;
        member->container = std::move(container);
        new_.push_back(member);
    }
    node.member = member;
    return node;
}

void Registry::walk(const std::string& path, unsigned depth) {
    const std::string directory = hierarchy_.root + path;
    const auto names = list_directory(AT_FDCWD, directory);
    if (!names) return;  // removed meanwhile
    for (const std::string& name : *names) {
        struct stat status{};
        const std::string below = path + "/" + name;
        if (::lstat((directory + "/" + name).c_str(), &status) != 0 || !S_ISDIR(status.st_mode))
            continue;
        if (!nodes_.contains(status.st_ino) && !removed_.contains(status.st_ino)) {
            const Node& node = add(status.st_ino, below);
            if (has_processes(directory + "/" + name)) node.member->occupied = true;
        }
        if (depth < deepest) walk(below, depth + 1);
    }
}

void Registry::walk() {
    walk("", 0);
    // The root, and what was removed before it could be seen.
    for (const uint64_t cgroup : unknown_)
        if (!nodes_.contains(cgroup)) ignore(cgroup);
    unknown_.clear();
}

bool Registry::exists(const Member& member) const {
    struct stat status{};
    return ::stat((hierarchy_.root + member.container.cgroup).c_str(), &status) == 0 &&
           status.st_ino == member.cgroup;
}

void Registry::ignore(uint64_t cgroup) {
    if (removed_.insert(cgroup).second) removed_order_.push_back(cgroup);
    for (; removed_order_.size() > most_removed; removed_order_.pop_front())
        removed_.erase(removed_order_.front());
}

bool Registry::made(uint64_t cgroup, const std::string& path) {
    if (nodes_.contains(cgroup)) return false;
    // The same number again is another cgroup: what is late for the old one is not told apart, but
    // goes to no container of the past.
    removed_.erase(cgroup);
    // A path made again has lost its old cgroup, even where nobody told.
    if (const auto old = ids_.find(path); old != ids_.end()) gone(uint64_t{old->second});
    add(cgroup, path);
    return true;
}

std::shared_ptr<Member> Registry::gone(uint64_t cgroup) {
    ignore(cgroup);
    const auto node = nodes_.find(cgroup);
    if (node == nodes_.end()) return nullptr;
    if (const auto id = ids_.find(node->second.path); id != ids_.end() && id->second == cgroup)
        ids_.erase(id);
    nodes_.erase(node);
    const auto own = members_.find(cgroup);
    if (own == members_.end()) return nullptr;
    std::shared_ptr<Member> member = std::move(own->second);
    members_.erase(own);
    return member;
}

std::shared_ptr<Member> Registry::find(uint64_t cgroup) {
    if (const auto node = nodes_.find(cgroup); node != nodes_.end()) return node->second.member;
    if (!removed_.contains(cgroup)) unknown_.insert(cgroup);
    return nullptr;
}

}  // namespace memplate::trace
