// SPDX-License-Identifier: Apache-2.0
#include "check/capabilities.h"

#include <fmt/ranges.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "check/probes.h"
#include "check/system_files.h"
#include "criu/installation.h"
#include "engine/pseudo_mm.h"
#include "util/fs.h"
#include "util/text.h"
#include "util/tracepoint.h"

namespace memplate::check {
namespace {

using Methods = std::vector<std::string_view>;

const Methods all_methods = {"cold", "copy", "lazy", "mapped", "attached"};
const Methods restoring = {"copy", "lazy", "mapped", "attached"};

/// Puts the outcome of a probe, a text or nothing, into a capability.
Capability decide(Capability capability, const Result<std::string>& found) {
    capability.ok = found.has_value();
    capability.reason = found ? *found : found.error().message;
    if (capability.ok) capability.fix.clear();
    return capability;
}

Capability decide(Capability capability, const Result<>& tried, std::string_view success) {
    return decide(std::move(capability), tried
                                             ? Result<std::string>(success)
                                             : Result<std::string>(std::unexpected(tried.error())));
}

Capability describe(std::string group, std::string name, std::string needed_for,
                    Methods required_by, std::string fix) {
    return {.name = std::move(name),
            .group = std::move(group),
            .ok = false,
            .reason = {},
            .fix = std::move(fix),
            .needed_for = std::move(needed_for),
            .required_by = std::move(required_by)};
}

void add_privileges(std::vector<Capability>& list) {
    const bool root = ::geteuid() == 0;
    list.push_back(decide(describe("system", "root privileges", "all starts", all_methods,
                                   "run memplate as root: sudo memplate check"),
                          root ? Result<>{} : fail(fmt::format("user id is {}", ::geteuid())),
                          "user id is 0"));
}

Result<std::string> shared_memory() {
    constexpr const char* path = "/dev/shm";
    if (!on_tmpfs(path)) return fail(fmt::format("{} is not a tmpfs", path));
    struct statvfs status{};
    if (::statvfs(path, &status) != 0) return fail_errno(errno, path);
    return fmt::format("{} free in {}", format_size(uint64_t{status.f_bavail} * status.f_frsize),
                       path);
}

void add_namespaces(std::vector<Capability>& list) {
    constexpr std::pair<const char*, int> kinds[] = {
        {"pid", CLONE_NEWPID}, {"mount", CLONE_NEWNS}, {"net", CLONE_NEWNET},
        {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},  {"cgroup", CLONE_NEWCGROUP}};
    for (const auto& [name, flag] : kinds)
        list.push_back(
            decide(describe("sandbox", fmt::format("{} namespace", name), "all starts", all_methods,
                            "run as root outside of restricted containers, on a kernel "
                            "with this namespace"),
                   try_namespace(flag), "created one"));
}

void add_sandbox(std::vector<Capability>& list) {
    add_namespaces(list);
    list.push_back(decide(describe("sandbox", "overlay", "all starts", all_methods,
                                   "modprobe overlay; / must not itself be a nested overlay"),
                          try_overlay(), "mounted one over /"));
    list.push_back(decide(describe("sandbox", "bridge", "network", all_methods, "modprobe bridge"),
                          try_bridge(), "created one"));
    list.push_back(decide(describe("sandbox", "veth", "network", all_methods, "modprobe veth"),
                          try_veth(), "created a pair"));
}

void add_cgroups(const SystemFiles& files, std::vector<Capability>& list) {
    for (const char* controller : {"memory", "cpu", "pids"})
        list.push_back(
            decide(describe("limits", fmt::format("cgroup {}", controller),
                            fmt::format("{} limits", controller), {},
                            "mount the cgroup2 file system on /sys/fs/cgroup with this controller "
                            "(kernel parameter systemd.unified_cgroup_hierarchy=1)"),
                   files.cgroup_controller(controller)));
}

Result<std::string> usable_criu(const criu::Installation& installation) {
    const auto options = try_socket_options();
    if (installation.version < 40200 && !options)
        return fail(fmt::format("{} in {} cannot checkpoint internet sockets on this kernel ({})",
                                installation.version_text, installation.root,
                                options.error().message));
    return fmt::format("{} in {}", installation.version_text, installation.root);
}

Result<> criu_feature(const Result<criu::Installation>& installation, const std::string& feature) {
    if (!installation) return fail("no CRIU");
    TRY_ASSIGN(const criu::RunResult result,
               criu::run(installation->root, {"check", "--feature", feature}));
    if (result.exit_code != 0) return fail("`criu check` says no");
    return {};
}

void add_checkpointing(const Context& context, std::vector<Capability>& list) {
    const auto installation = criu::Installation::find(context);
    list.push_back(decide(describe("checkpoint", "criu", "templates, restores", restoring,
                                   "run scripts/install-deps run, or set criu_root in the "
                                   "configuration to a CRIU that works here"),
                          installation
                              ? usable_criu(*installation)
                              : Result<std::string>(std::unexpected(installation.error()))));
    list.push_back(decide(describe("checkpoint", "criu lazy pages", "method lazy", {"lazy"},
                                   "a kernel with CONFIG_USERFAULTFD and the criu above"),
                          criu_feature(installation, "uffd-noncoop"), "supported"));
    list.push_back(decide(describe("checkpoint", "criu dirty tracking", "faster checkpoints", {},
                                   "a kernel with CONFIG_MEM_SOFT_DIRTY; nothing else misses it"),
                          criu_feature(installation, "mem_dirty_track"), "supported"));
    list.push_back(decide(describe("checkpoint", "pagemap", "templates, profiles", restoring,
                                   "a kernel with CONFIG_PROC_PAGE_MONITOR, and root privileges"),
                          try_pagemap(), "tells copied pages"));
}

void add_tracepoints(std::vector<Capability>& list) {
    const auto recorder = SyscallRecorder::start();
    list.push_back(decide(describe("checkpoint", "syscall tracepoints", "hazard detection", {},
                                   "run as root on a kernel with CONFIG_FTRACE_SYSCALLS and "
                                   "CONFIG_PERF_EVENTS; without it more memory is copied"),
                          recorder ? Result<>{} : Result<>(std::unexpected(recorder.error())),
                          "recorded madvise, mremap"));
}

void add_memory(std::vector<Capability>& list) {
    list.push_back(decide(describe("memory", "tmpfs", "pools, image cache", {},
                                   "mount -t tmpfs -o mode=1777 tmpfs /dev/shm"),
                          shared_memory()));
    list.push_back(decide(describe("memory", "memfd sealing", "pools in memory", {},
                                   "a kernel with CONFIG_MEMFD_CREATE"),
                          try_memfd_sealing(), "sealed and mapped one"));
    list.push_back(decide(describe("memory", "userfaultfd", "method lazy", {"lazy"},
                                   "a kernel with CONFIG_USERFAULTFD, and root or "
                                   "sysctl vm.unprivileged_userfaultfd=1"),
                          try_userfaultfd(), "with fork, remap and unmap events"));
}

Result<std::string> devices(const SystemFiles& files, const std::string& directory) {
    const auto names = files.names_in(directory);
    if (names.empty()) return fail("none in /" + directory);
    return fmt::format("{}", fmt::join(names, " "));
}

/// "interface 1: remote, lazy".
Result<std::string> loaded_module(const SystemFiles& files) {
    if (!files.is_character_device("dev/pseudo_mm"))
        return fail("there is no device /dev/pseudo_mm");
    TRY_ASSIGN(const auto module, engine::Module::open());
    TRY(module.require(PSEUDO_MM_FEATURE_REMOTE));
    return fmt::format("interface {}: {}", module.info().abi,
                       engine::feature_names(module.info().features));
}

void add_hardware(const SystemFiles& files, std::vector<Capability>& list) {
    list.push_back(decide(describe("extras", "module pseudo_mm", "method attached", {"attached"},
                                   "build and load the kernel module: make kmod, then modprobe "
                                   "pseudo_mm (as root)"),
                          loaded_module(files)));
    list.push_back(decide(describe("extras", "devdax", "pools on CXL, PMem", {},
                                   "create one: ndctl create-namespace -m devdax -M mem, or "
                                   "daxctl reconfigure-device --mode=devdax DEVICE"),
                          devices(files, "sys/bus/dax/devices")));
    list.push_back(decide(describe("extras", "rdma", "remote pools", {},
                                   "load the driver of the network card, or modprobe rdma_rxe"),
                          devices(files, "sys/class/infiniband")));
    list.push_back(decide(
        describe("extras", "btf", "tracing", {}, "a kernel with CONFIG_DEBUG_INFO_BTF"),
        files.exists("sys/kernel/btf/vmlinux") ? Result<>{} : fail("no /sys/kernel/btf/vmlinux"),
        "/sys/kernel/btf/vmlinux"));
    list.push_back(decide(describe("extras", "cuda driver", "gpu", {},
                                   "install the NVIDIA driver (package libcuda1)"),
                          try_cuda_driver()));
}

}  // namespace

Report examine(const Context& context, const std::string& root) {
    std::vector<Capability> list;
    add_privileges(list);
    const auto files = SystemFiles::open(root);
    if (!files) {
        list.push_back(decide(
            describe("system", "system files", "all starts", all_methods, "mount /proc and /sys"),
            Result<std::string>(std::unexpected(files.error()))));
        return make_report(std::move(list));
    }
    add_memory(list);
    add_sandbox(list);
    add_cgroups(*files, list);
    add_checkpointing(context, list);
    add_tracepoints(list);
    add_hardware(*files, list);
    if (::geteuid() != 0) {
        // Nothing else can be told apart from the lack of privileges.
        for (Capability& capability : list)
            if (!capability.ok && capability.group != "extras")
                capability.fix = "run memplate as root: sudo memplate check";
    }
    return make_report(std::move(list));
}

}  // namespace memplate::check
