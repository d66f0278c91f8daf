// SPDX-License-Identifier: Apache-2.0
//
// What this host knows about its instances: STATE/instances/ID/, one directory each, with a lock
// file that the agent holds while it makes the instance and the keeper for as long as it lives.
// A directory whose lock is free belongs to nobody any more; sweep() removes it with all it names.
#pragma once

#include <string>
#include <vector>

#include "util/context.h"
#include "util/fd.h"
#include "util/json.h"

namespace memplate::instance {

/// A directory made for a new instance, locked. Removed with all remains unless kept.
class Directory {
  public:
    /// A fresh id is PREFIX plus six hexadecimal digits.
    static Result<Directory> create(const Context& context, const std::string& prefix);
    Directory(Directory&& other) noexcept;
    Directory& operator=(Directory&& other) noexcept;
    ~Directory();

    [[nodiscard]] const std::string& id() const { return id_; }
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] const UniqueFd& lock() const { return lock_; }
    /// How many instances this host has made: each sees another number (DESIGN.md D9).
    [[nodiscard]] uint64_t generation() const { return generation_; }
    /// The instance runs on by itself: leave the directory to it.
    void keep() { kept_ = true; }

  private:
    Directory(const Context& context, std::string id, std::string path, UniqueFd lock,
              UniqueFd agent_lock, uint64_t generation);
    const Context* context_;
    std::string id_;
    std::string path_;
    UniqueFd lock_;        ///< shared with the keeper
    UniqueFd agent_lock_;  ///< ours alone
    uint64_t generation_ = 0;
    bool kept_ = false;
};

/// What `ps` shows and `stop` needs; state.json of an instance.
struct Record {
    std::string id;
    std::string template_name;
    std::string pool;
    std::string engine;
    std::string address;
    uint16_t port = 0;
    pid_t pid = 0;     ///< root process, host pid
    pid_t keeper = 0;  ///< host pid
    double ready_ms = 0;
    int64_t created = 0;

    [[nodiscard]] Json to_json() const;
    static Result<Record> from_json(const Json& json);
};

[[nodiscard]] Result<> save(const Directory& directory, const Record& record);

/// Running instances, oldest first.
[[nodiscard]] Result<std::vector<Record>> list(const Context& context);

/// Removes what dead agents and ended instances have left: processes, cgroups, links, directories,
/// half-made images. Every command that touches instances calls it first.
[[nodiscard]] Result<> sweep(const Context& context);

/// Ends one instance: SIGTERM to its root process, `grace_ms` for it to end, then everything in it
/// is killed; nothing of it is left afterwards.
[[nodiscard]] Result<> stop(const Context& context, const std::string& id, int grace_ms);

/// Declared before the instances of an operation: takes the bridge away after the last of them.
class CleanExit {
  public:
    explicit CleanExit(const Context& context) : context_(context) {}
    CleanExit(const CleanExit&) = delete;
    CleanExit& operator=(const CleanExit&) = delete;
    ~CleanExit();

  private:
    const Context& context_;
};

/// Where the images of a checkpoint under way are kept: removed by sweep() with the instance.
[[nodiscard]] std::string build_directory(const Context& context, const std::string& id);

/// Copies a log to STATE/log, which keeps the newest 64; returns its path there.
[[nodiscard]] std::string keep_log(const Context& context, const std::string& source,
                                   const std::string& name);

}  // namespace memplate::instance
