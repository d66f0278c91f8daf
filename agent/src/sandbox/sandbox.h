// SPDX-License-Identifier: Apache-2.0
//
// A sandbox: namespaces (pid, mount, net, ipc, uts, cgroup), an overlay root, one network address
// and a cgroup, held together by a keeper process that is pid 1 inside. The agent asks the keeper,
// over a socket, to do what can only be done inside. Knows nothing of templates.
//
// Life: create() → (spawn, restore, …) → release() when the instance runs, and then the keeper
// outlives the agent; or the object is destroyed before, and everything is gone again. If the agent
// dies before release() the keeper sees its socket close and exits, and with it every process of
// the pid namespace; cgroup and directory are found by their free lock and removed by sweep().
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "util/context.h"
#include "util/fd.h"
#include "util/json.h"

namespace memplate::sandbox {

/// A host path visible inside, read-only unless `writable`.
struct Bind {
    std::string source;
    std::string target;  ///< absolute, inside the sandbox; created if missing
    bool writable = false;
    bool device = false;  ///< a device node that may be opened
};

struct Spec {
    std::string id;          ///< [a-z0-9-]; also the host name inside and the cgroup's name
    std::string root = "/";  ///< lower layer of the overlay
    std::vector<Bind> binds;
    std::string criu_root;                         ///< bound read-only at /run/memplate/criu
    bool network = true;                           ///< false: loopback only
    uint64_t scratch_bytes = uint64_t{512} << 20;  ///< size of the tmpfs that takes all writes
};

/// Limits of an instance; unset: none.
struct Limits {
    std::optional<uint64_t> memory_bytes;
    std::optional<double> cpus;
    std::optional<uint64_t> processes;
};

struct SpawnRequest {
    std::vector<std::string> argv;
    std::vector<std::string> environment;
    std::string working_directory = "/";
    /// Start with the default container capabilities only (as docker and containerd give).
    bool restrict_capabilities = true;
    /// The pid it gets inside is at least this: a restored tree must find its pids free.
    pid_t minimum_pid = 0;
    /// File inside the sandbox that takes stdout and stderr; empty: /dev/null.
    std::string output;
    /// Descriptors to be inherited: number in the child → descriptor of ours.
    std::map<int, int> descriptors;
    /// Standard input is /dev/null; the child is a session leader.
};

/// How a process inside ended, as waitpid(2) tells it.
struct ExitStatus {
    pid_t pid = 0;  ///< inside
    int status = 0;
};

class Sandbox {
  public:
    /// `directory` (on the host; exists; its "lock" file is held exclusively by `lock`) takes
    /// keeper.log, sandbox.json, address and status.json. The keeper inherits the lock.
    static Result<Sandbox> create(const Context& context, const Spec& spec,
                                  const std::string& directory, const UniqueFd& lock);
    Sandbox(Sandbox&&) noexcept;
    Sandbox& operator=(Sandbox&&) noexcept;
    ~Sandbox();  ///< destroys what was not released

    /// Starts a process inside; returns its pid there.
    Result<pid_t> spawn(const SpawnRequest& request);
    /// Starts `criu swrk` from criu_root inside, with `descriptors` inherited under the numbers
    /// given, and returns our end of its RPC socket. The socket pair is made by the keeper, so
    /// criu sees pid 1 as its peer: descriptors lent to the keeper are what RPC fds mean.
    Result<UniqueFd> spawn_criu(const std::map<int, int>& descriptors);
    /// Gives the keeper a duplicate of `fd`; returns its number there.
    Result<int> lend_descriptor(int fd);
    /// Makes the keeper close a descriptor it was lent.
    Result<> take_back_descriptor(int number);
    /// Writes a file inside (directories are created), replacing what is there.
    Result<> write_file(const std::string& path, std::string_view data, unsigned mode = 0644);
    /// Sends a signal to a process inside.
    Result<> signal(pid_t pid, int signal_number);
    /// Next exit of a direct child of the keeper (or of an orphan it adopted), if one is known
    /// within `timeout_ms`.
    Result<std::optional<ExitStatus>> wait_exit(int timeout_ms);

    [[nodiscard]] const std::string& id() const;
    /// IPv4 address; empty without network.
    [[nodiscard]] const std::string& address() const;
    /// Host pid of pid 1 inside.
    [[nodiscard]] pid_t keeper() const;
    /// By which tracing knows its cgroup; 0 if it has none.
    [[nodiscard]] uint64_t cgroup_number() const;
    /// Host pids of all processes inside but the keeper, from the cgroup.
    [[nodiscard]] Result<std::vector<pid_t>> processes() const;
    /// Path of a file inside as seen from the host (through /proc/KEEPER/root). Links in it are
    /// followed on the host: for files that a function may have made use open_inside().
    [[nodiscard]] std::string host_path(const std::string& path) const;
    /// Opens a file inside; links are followed inside.
    [[nodiscard]] Result<UniqueFd> open_inside(const std::string& path, int flags) const;

    /// Limits are set last, after the instance is up (DESIGN.md D8).
    Result<> apply_limits(const Limits& limits);

    /// From now on the keeper lives without the agent, until the process `root_pid` (inside) ends;
    /// it then records {"pid","status","signal","time"} in status.json and exits. "status" is the
    /// exit code, -1 if it was killed by "signal" (else 0) or was not the keeper's to reap.
    Result<> release(pid_t root_pid);

  private:
    struct State;
    explicit Sandbox(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Ends everything a sandbox directory refers to: kills what is in its cgroups, removes cgroups and
/// link. Called with the lock held, i.e. when keeper and agent are dead, or to stop an instance
/// (`kill_keeper`: the keeper is killed first and its lock waited for).
Result<> destroy_remains(const Context& context, const std::string& directory, bool kill_keeper);

/// Removes the bridge when no link is left on it.
Result<> remove_unused_bridge(const Context& context);

}  // namespace memplate::sandbox
