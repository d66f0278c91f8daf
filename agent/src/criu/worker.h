// SPDX-License-Identifier: Apache-2.0
//
// Client of one `criu swrk`: a CRIU process that was started ahead and waits on a socket for one
// dump or restore. The descriptors named in requests are numbers in the process that created the
// socket pair (CRIU opens /proc/PEER/fd/N), not ours.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "util/fd.h"

namespace memplate::criu {

struct DumpRequest {
    pid_t pid = 0;       ///< root of the tree, in CRIU's pid namespace
    int images_fd = -1;  ///< directory, number in the peer
    bool leave_running = false;
    bool skip_network_lock = false;  ///< CRIU 4.0 and later: no iptables run
};

/// `key` is the name under which the images mention the file; `fd` is a number in CRIU.
struct InheritedFile {
    std::string key;
    int fd = -1;
};

struct RestoreRequest {
    int images_fd = -1;
    int work_fd = -1;  ///< log, and the socket of lazy-pages
    bool lazy_pages = false;
    bool skip_network_lock = false;
    int log_level = 0;
    std::vector<InheritedFile> files;
    /// Called at post-restore: every memory area is in place, tasks do not run yet. `pid` is the
    /// root in CRIU's pid namespace. An error aborts the restore and kills the tasks.
    std::function<Result<>(pid_t pid)> before_resume;
};

/// When what happened, milliseconds since the request was sent.
struct RestoreTimes {
    double prepared = 0;  ///< post-restore notification arrived
    double resumed = 0;   ///< the final answer: all tasks run
};

struct RestoreOutcome {
    pid_t pid = 0;  ///< root of the tree, in CRIU's pid namespace
    RestoreTimes times;
};

/// Name of the log CRIU writes into the images (dump) or work (restore) directory.
inline constexpr const char* dump_log = "dump.log";
inline constexpr const char* restore_log = "restore.log";

class Worker {
  public:
    explicit Worker(UniqueFd socket) : socket_(std::move(socket)) {}

    [[nodiscard]] Result<> dump(const DumpRequest& request);
    [[nodiscard]] Result<RestoreOutcome> restore(const RestoreRequest& request);

  private:
    UniqueFd socket_;
};

/// The reason of a failure out of the text of a CRIU log: the first error message, in the words of
/// a person where it is a well-known one. Empty if there is none.
[[nodiscard]] std::string failure_reason(std::string_view log);

}  // namespace memplate::criu
