// SPDX-License-Identifier: Apache-2.0
//
// run_image(): a container of podman below a cgroup of ours, so that its cgroup is found at once.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cost/clock.h"
#include "cost/measure.h"
#include "util/container.h"
#include "util/fs.h"
#include "util/text.h"

namespace memplate::cost {
namespace {

constexpr const char* engine = "podman";

bool in_path(const std::string& program) {
    const char* path = ::getenv("PATH");
    for (const std::string& folder : split(path != nullptr ? path : "", ':'))
        if (::access((folder + "/" + program).c_str(), X_OK) == 0) return true;
    return false;
}

/// Removes the container, whatever happened.
struct Removal {
    std::string id;
    ~Removal() { (void)run_and_read({engine, "rm", "--force", id}); }
};

/// The container's own cgroup below `parent`: not that of its monitor.
std::string container_group(const std::string& parent) {
    const auto names = list_directory(AT_FDCWD, parent);
    if (!names) return {};
    for (const std::string& name : *names) {
        struct stat status{};
        const std::string path = parent + "/" + name;
        if (name.starts_with("libpod-") && name.find("conmon") == name.npos &&
            ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode))
            return path;
    }
    return {};
}

}  // namespace

Result<RunRecord> run_image(const Recorder& recorder, const CgroupHierarchy& hierarchy,
                            const std::string& image, const std::vector<std::string>& words) {
    if (!in_path(engine))
        return fail(ErrorKind::unsupported,
                    "podman: not found in PATH; --image needs it (--container and --cgroup follow "
                    "what another engine runs)");
    TRY_ASSIGN(const MemoryCgroup parent, MemoryCgroup::create(hierarchy));
    std::vector<std::string> create = {engine,
                                       "--cgroup-manager=cgroupfs",
                                       "create",
                                       "--cgroup-parent",
                                       parent.path().substr(hierarchy.root.size()),
                                       image};
    create.insert(create.end(), words.begin(), words.end());
    TRY_ASSIGN(const std::string output, run_and_read(create));
    const Removal removal{split(trim(output), '\n').back()};
    TRY_ASSIGN(Command command, Command::prepare({engine, "--cgroup-manager=cgroupfs", "start",
                                                  "--attach", removal.id},
                                                 nullptr, {.out = STDERR_FILENO}));
    TRY(command.release());
    // The engine makes the cgroup when it gets there; should it fail, it ends.
    std::string group;
    pollfd end{command.pidfd(), POLLIN, 0};
    while ((group = container_group(parent.path())).empty()) {
        if (recorder.stop.stop_requested()) return interrupted();
        if (::poll(&end, 1, 1) > 0) break;
    }
    if (group.empty()) {
        TRY_ASSIGN(const int status, command.wait());
        return fail(
            fmt::format("podman start {}: no memory cgroup appeared and it {}; nothing was "
                        "measured",
                        image, status == 0 ? "ended" : describe_status(status)));
    }
    TRY_ASSIGN(const MemoryCgroup cgroup, MemoryCgroup::open(hierarchy, group));
    TRY_ASSIGN(RunRecord run, follow_cgroup(recorder, cgroup));
    run.followed = false;
    if (run.end == RecordEnd::over || run.end == RecordEnd::cgroup_gone) {
        TRY_ASSIGN(const int status, command.wait());
        run.failure = describe_status(status);
    }
    return run;
}

}  // namespace memplate::cost
