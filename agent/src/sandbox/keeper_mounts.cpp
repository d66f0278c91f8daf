// SPDX-License-Identifier: Apache-2.0
#include "sandbox/keeper_mounts.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "sandbox/message.h"

namespace memplate::keeper {
namespace {

constexpr unsigned long harmless = MS_NOSUID | MS_NODEV | MS_NOEXEC;

Outcome<> mount_type(const char* type, const std::string& target, unsigned long flags,
                     const std::string& options) {
    KEEPER_TRY(make_directory(target));
    if (::mount(type, target.c_str(), type, flags, options.c_str()) != 0)
        return fault(errno, std::string("mount ") + type + " on " + target);
    return {};
}

/// A detached copy of the mount at `path`. Taken by descriptor before the root is exchanged, so
/// that sources are host paths and targets are looked up inside, whatever links either holds.
Outcome<Descriptor> take_mount(const std::string& path, bool recursive, uint64_t attributes) {
    Descriptor tree(::open_tree(AT_FDCWD, path.c_str(),
                                OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
                                    (recursive ? static_cast<unsigned>(AT_RECURSIVE) : 0U)));
    if (!tree) return fault(errno, path);
    mount_attr attr{};
    attr.attr_set = attributes;
    if (attributes != 0 &&
        ::mount_setattr(tree.get(), "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
                        sizeof attr) != 0)
        return fault(errno, "set mount attributes of " + path);
    return tree;
}

Outcome<> put_mount(const Descriptor& tree, const std::string& target) {
    if (::move_mount(tree.get(), "", AT_FDCWD, target.c_str(),
                     MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) != 0)
        return fault(errno, "mount on " + target);
    return {};
}

/// As put_mount, creating the mount point: a directory for a directory, a file for anything else.
Outcome<> put_bind(const Descriptor& tree, const std::string& target) {
    struct stat source{};
    if (::fstat(tree.get(), &source) != 0) return fault(errno, target);
    if (S_ISDIR(source.st_mode)) {
        KEEPER_TRY(make_directory(target));
    } else {
        KEEPER_TRY(make_parents(target));
        const Descriptor file(
            ::open(target.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644));
        if (!file && errno != ENXIO) return fault(errno, target);
    }
    return put_mount(tree, target);
}

/// The overlay of `plan.root`, mounted on "root" of a tmpfs that becomes the working directory.
/// All three layers are named by relative paths: nothing needs escaping in the options.
Outcome<> mount_overlay(const MountPlan& plan) {
    auto lower = take_mount(plan.root, false, 0);
    if (!lower) return std::unexpected(std::move(lower.error()));
    struct stat lower_root{};
    if (::fstat(lower->get(), &lower_root) != 0) return fault(errno, plan.root);
    if (!S_ISDIR(lower_root.st_mode)) return fault(ENOTDIR, plan.root);

    KEEPER_TRY(mount_type("tmpfs", plan.directory, MS_NODEV,
                          "mode=755,size=" + std::to_string(plan.scratch_bytes)));
    if (::chdir(plan.directory.c_str()) != 0) return fault(errno, plan.directory);
    for (const char* name : {"lower", "upper", "work", "root", "upper/tmp"}) {
        if (::mkdir(name, 0755) != 0) return fault(errno, name);
    }
    // The merged root shows the owner and mode of the upper one.
    if (::chown("upper", lower_root.st_uid, lower_root.st_gid) != 0 ||
        ::chmod("upper", lower_root.st_mode & 07777) != 0 || ::chmod("upper/tmp", 01777) != 0)
        return fault(errno, "set the mode of the root directory");
    // Opaque: what lies in the lower layer's /tmp does not show.
    if (::setxattr("upper/tmp", "trusted.overlay.opaque", "y", 1, 0) != 0)
        return fault(errno, "mark /tmp opaque (needs a kernel with CONFIG_TMPFS_XATTR)");
    KEEPER_TRY(put_mount(*lower, "lower"));
    if (::mount("overlay", "root", "overlay", MS_NODEV,
                "lowerdir=lower,upperdir=upper,workdir=work") != 0) {
        if (errno == ENODEV)
            return std::unexpected(
                Fault{ENODEV, "the kernel has no overlay file system; load or build overlayfs"});
        return fault(errno, "mount an overlay over " + plan.root);
    }
    return {};
}

Outcome<> exchange_root() {
    if (::chdir("root") != 0) return fault(errno, "enter the new root");
    // The old root lands on top of the new one and is taken off again: no directory is needed.
    if (::syscall(SYS_pivot_root, ".", ".") != 0) return fault(errno, "pivot_root");
    if (::umount2(".", MNT_DETACH) != 0) return fault(errno, "detach the old root");
    if (::chdir("/") != 0) return fault(errno, "enter the new root");
    return {};
}

struct DeviceNode {
    const char* path;
    unsigned major;
    unsigned minor;
};
constexpr DeviceNode device_nodes[] = {{"/dev/null", 1, 3},    {"/dev/zero", 1, 5},
                                       {"/dev/full", 1, 7},    {"/dev/random", 1, 8},
                                       {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};
constexpr const char* device_links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"},
                                           {"pts/ptmx", "/dev/ptmx"}};

Outcome<> mount_devices() {
    KEEPER_TRY(mount_type("tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k"));
    const mode_t mask = ::umask(0);
    for (const auto& node : device_nodes) {
        if (::mknod(node.path, S_IFCHR | 0666, makedev(node.major, node.minor)) != 0) {
            ::umask(mask);
            return fault(errno, node.path);
        }
    }
    ::umask(mask);
    for (const auto& link : device_links) {
        if (::symlink(link[0], link[1]) != 0) return fault(errno, link[1]);
    }
    KEEPER_TRY(mount_type("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
                          "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    KEEPER_TRY(mount_type("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"));
    KEEPER_TRY(make_directory("/dev/mqueue"));
    // A kernel without POSIX message queues is fine.
    if (::mount("mqueue", "/dev/mqueue", "mqueue", harmless, nullptr) != 0 && errno != ENODEV)
        return fault(errno, "mount mqueue on /dev/mqueue");
    return {};
}

/// What the functions, which run as uid 0 of the host's user namespace, must not write or read:
/// the lists of the OCI runtimes.
constexpr const char* read_only_paths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                           "/proc/sysrq-trigger"};
constexpr const char* masked_paths[] = {"/proc/acpi", "/proc/asound",        "/proc/kcore",
                                        "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
                                        "/proc/scsi", "/proc/timer_list",    "/sys/firmware"};

Outcome<> protect_kernel_files() {
    for (const char* path : read_only_paths) {
        auto tree = take_mount(path, false, MOUNT_ATTR_RDONLY);
        if (!tree) {
            if (tree.error().code == ENOENT) continue;
            return std::unexpected(std::move(tree.error()));
        }
        KEEPER_TRY(put_mount(*tree, path));
    }
    for (const char* path : masked_paths) {
        struct stat st{};
        if (::stat(path, &st) != 0) continue;
        const int failed =
            S_ISDIR(st.st_mode)
                ? ::mount("tmpfs", path, "tmpfs", MS_RDONLY | harmless, "size=4k,mode=755")
                : ::mount("/dev/null", path, nullptr, MS_BIND, nullptr);
        if (failed != 0) return fault(errno, std::string("mask ") + path);
    }
    return {};
}

}  // namespace

Outcome<Descriptor> build_root(const MountPlan& plan) {
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
        return fault(errno, "make mounts private");

    std::vector<Descriptor> sources;
    for (const auto& bind : plan.binds) {
        auto tree = take_mount(bind.source, true,
                               (bind.device ? MOUNT_ATTR_NOEXEC : MOUNT_ATTR_NODEV) |
                                   (bind.writable || bind.device ? 0 : MOUNT_ATTR_RDONLY));
        if (!tree) return std::unexpected(std::move(tree.error()));
        sources.push_back(std::move(*tree));
    }
    Descriptor criu;
    if (!plan.criu_root.empty()) {
        // Only usr: of a criu_root "/" the function shall not see, say, /etc/shadow.
        auto tree =
            take_mount(plan.criu_root + "/usr", false, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV);
        if (!tree) return std::unexpected(std::move(tree.error()));
        criu = std::move(*tree);
    }

    KEEPER_TRY(mount_overlay(plan));
    KEEPER_TRY(exchange_root());

    KEEPER_TRY(mount_type("proc", "/proc", harmless, ""));
    KEEPER_TRY(mount_type("sysfs", "/sys", MS_RDONLY | harmless, ""));
    KEEPER_TRY(mount_devices());
    KEEPER_TRY(mount_type("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755"));
    KEEPER_TRY(make_directory("/run/memplate"));
    KEEPER_TRY(make_directory("/run/lock"));
    if (::chmod("/run/lock", 01777) != 0) return fault(errno, "/run/lock");
    if (criu) KEEPER_TRY(put_bind(criu, std::string(sandbox::criu_mount) + "/usr"));

    Descriptor last_pid(::open("/proc/sys/kernel/ns_last_pid", O_RDWR | O_CLOEXEC));
    if (!last_pid)
        return fault(errno, "/proc/sys/kernel/ns_last_pid (needs CONFIG_CHECKPOINT_RESTORE)");
    KEEPER_TRY(protect_kernel_files());
    for (size_t i = 0; i < sources.size(); ++i)
        KEEPER_TRY(put_bind(sources[i], plan.binds[i].target));
    // Read-only, and every other mount is nodev: CAP_MKNOD reaches no device of the host.
    if (::mount(nullptr, "/dev", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC,
                nullptr) != 0)
        return fault(errno, "make /dev read-only");
    return last_pid;
}

}  // namespace memplate::keeper
