// SPDX-License-Identifier: Apache-2.0
//
// Which container a cgroup belongs to. Ids are never reused: what comes late for a removed cgroup
// is nobody's.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "util/container.h"

namespace memplate::trace {

/// A container as people know it; else a systemd unit; else a cgroup of its own.
struct Member {
    uint64_t cgroup = 0;  ///< kernfs id of its own directory, not of one below it
    Container container;
    std::string command{};  ///< of its first process, where it ran before the trace began
    bool occupied = false;  ///< it has, or had, processes
    bool resolved = false;  ///< names and image are as good as they get

    /// "web", or what else tells it apart.
    [[nodiscard]] std::string name() const;
    /// Of what many are started: the image, or the name where there is none.
    [[nodiscard]] std::string group() const;
};

/// The container of a cgroup path, or the unit, or the cgroup itself.
[[nodiscard]] Container container_of(const std::string& cgroup_path);

class Registry {
  public:
    explicit Registry(CgroupHierarchy hierarchy) : hierarchy_(std::move(hierarchy)) {}

    /// Walks the hierarchy for what exists already; again whenever something unknown appeared.
    void walk();
    /// A cgroup that is a member of its own, even inside a container.
    void pin(const std::string& path) { pinned_ = path; }
    /// A cgroup was made; false if it was known already, from a walk.
    bool made(uint64_t cgroup, const std::string& path);
    /// Nothing with this id belongs to anything from now on. The member, if the cgroup was its own.
    std::shared_ptr<Member> gone(uint64_t cgroup);

    /// The member a cgroup counts to; null if it is not known. One that was never heard of makes
    /// unknown() true, until the next walk.
    [[nodiscard]] std::shared_ptr<Member> find(uint64_t cgroup);
    [[nodiscard]] bool unknown() const { return !unknown_.empty(); }
    /// Members since the last call.
    [[nodiscard]] std::vector<std::shared_ptr<Member>> take_new() {
        return std::exchange(new_, {});
    }
    /// Whether its directory is still there.
    [[nodiscard]] bool exists(const Member& member) const;

    [[nodiscard]] const std::map<uint64_t, std::shared_ptr<Member>>& members() const {
        return members_;
    }
    [[nodiscard]] const CgroupHierarchy& hierarchy() const { return hierarchy_; }

  private:
    struct Node {
        std::string path;
        std::shared_ptr<Member> member;
    };
    void walk(const std::string& path, unsigned depth);
    Node& add(uint64_t cgroup, const std::string& path);
    void ignore(uint64_t cgroup);
    [[nodiscard]] Container container_at(const std::string& path) const;

    CgroupHierarchy hierarchy_;
    std::unordered_map<uint64_t, Node> nodes_;
    std::unordered_map<std::string, uint64_t> ids_;
    std::map<uint64_t, std::shared_ptr<Member>> members_;
    std::unordered_set<uint64_t> removed_;
    std::deque<uint64_t> removed_order_;  ///< the oldest are forgotten
    std::unordered_set<uint64_t> unknown_;
    std::vector<std::shared_ptr<Member>> new_;
    std::string pinned_;
};

}  // namespace memplate::trace
