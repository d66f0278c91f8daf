// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstring>
#include <utility>

#include "engine/pseudo_mm.h"

namespace memplate::engine {
namespace {

Error make_error(ErrorKind kind, int code, std::string_view what) {
    Error error;
    error.kind = kind;
    error.code = code;
    error.message = fmt::format("pseudo_mm: {}", what);
    return error;
}

/// For what the interface says cannot happen, and ENOMEM.
Error plain_error(int code, std::string_view what) {
    if (code == ENOMEM)
        return make_error(ErrorKind::failed, code,
                          fmt::format("{}: not enough memory on this host", what));
    return make_error(ErrorKind::failed, code, fmt::format("{}: {}", what, std::strerror(code)));
}

}  // namespace

std::string feature_names(uint64_t features) {
    constexpr std::array<std::pair<uint64_t, std::string_view>, 3> names{
        {{PSEUDO_MM_FEATURE_REMOTE, "remote"},
         {PSEUDO_MM_FEATURE_LAZY, "lazy"},
         {PSEUDO_MM_FEATURE_ROLLBACK, "rollback"}}};
    std::string list;
    for (const auto& [feature, name] : names) {
        if ((features & feature) == 0) continue;
        if (!list.empty()) list += ", ";
        list += name;
    }
    return list;
}

Result<> check_interface(const pseudo_mm_info& info) {
    if (info.abi < PSEUDO_MM_ABI)
        return fail(ErrorKind::unsupported,
                    fmt::format("pseudo_mm: the loaded module is too old (interface {}, needed is "
                                "{}); build it again with make kmod, then rmmod pseudo_mm and load "
                                "the new one",
                                info.abi, PSEUDO_MM_ABI));
    if (info.abi > PSEUDO_MM_ABI)
        return fail(ErrorKind::unsupported,
                    fmt::format("pseudo_mm: the loaded module is newer than this memplate "
                                "(interface {}, known is {}); install the memplate it came with",
                                info.abi, PSEUDO_MM_ABI));
    return {};
}

Result<> check_features(const pseudo_mm_info& info, uint64_t features) {
    const uint64_t missing = features & ~info.features;
    if (missing == 0) return {};
    return fail(ErrorKind::unsupported,
                fmt::format("pseudo_mm: this module cannot do what is needed ({}); build it for "
                            "the running kernel with make kmod and load it",
                            feature_names(missing)));
}

Error open_error(int code, const std::string& device) {
    switch (code) {
        case ENOENT:
        case ENXIO:
        case ENODEV:
            return make_error(ErrorKind::unsupported, code,
                              fmt::format("the kernel module is not loaded (no {}); modprobe "
                                          "pseudo_mm, or build it first with make kmod",
                                          device));
        case EACCES:
        case EPERM:
            return make_error(
                ErrorKind::unsupported, code,
                fmt::format("{}: no permission to open it; run memplate as root", device));
        case ENOTTY:
            return make_error(
                ErrorKind::unsupported, code,
                fmt::format("{} does not belong to the module; remove it and load the module "
                            "again: rmmod pseudo_mm; modprobe pseudo_mm",
                            device));
        default:
            return make_error(ErrorKind::failed, code,
                              fmt::format("{}: {}", device, std::strerror(code)));
    }
}

Error pool_error(int code, const pseudo_mm_info& info) {
    switch (code) {
        case EPERM:
            return make_error(ErrorKind::unsupported, code,
                              "no permission to pin memory; run memplate as root (it takes "
                              "CAP_IPC_LOCK)");
        case EFAULT:
            return make_error(ErrorKind::failed, code,
                              "a page of the pool is not there: the pool's file is shorter than "
                              "its catalogue says; memplate pool verify tells what is lost");
        case EOPNOTSUPP:
            return make_error(ErrorKind::unsupported, code,
                              "the pool's memory cannot be shared in place (a device without "
                              "struct pages?); recreate it with --map=mem, see memplate check");
        case ENOSPC:
            return make_error(
                ErrorKind::failed, code,
                fmt::format("its limits are reached ({} of {} pools, {} of {} pool pages, {} "
                            "pools waiting for processes); stop instances, or raise max_pools or "
                            "max_pool_pages in /sys/module/pseudo_mm/parameters",
                            info.pools, info.max_pools, info.pool_pages, info.max_pool_pages,
                            info.lingering_pools));
        case EINTR:
            return make_error(ErrorKind::interrupted, code, "interrupted");
        case EIO:
            return make_error(ErrorKind::failed, code,
                              "a page of the pool is damaged (memory failure, see the kernel "
                              "log); memplate pool verify names the template to rebuild");
        default:
            return plain_error(code, "make a pool");
    }
}

Error template_error(int code) {
    if (code == ENOSPC)
        return make_error(ErrorKind::failed, code,
                          "its limit of templates is reached; raise max_templates in "
                          "/sys/module/pseudo_mm/parameters");
    return plain_error(code, "start a template");
}

Error add_error(int code, const pseudo_mm_extent& first) {
    if (code == ENOSPC)
        return make_error(ErrorKind::failed, code,
                          "the template is cut into more pieces than the module takes; raise "
                          "max_extents in /sys/module/pseudo_mm/parameters, or use engine copy");
    if (code == ENOMEM) return plain_error(code, "fill a template");
    return make_error(ErrorKind::failed, code,
                      fmt::format("the template's page map is wrong at or after {:#x} ({}); "
                                  "rebuild the template",
                                  first.addr, std::strerror(code)));
}

Error attach_error(int code, pid_t pid, uint64_t address) {
    const auto at = [&](std::string_view what) {
        return make_error(ErrorKind::failed, code,
                          fmt::format("process {}: {} at {:#x}", pid, what, address));
    };
    switch (code) {
        case ESRCH:
            return make_error(ErrorKind::failed, code,
                              fmt::format("process {} ended before its memory was filled", pid));
        case EPERM:
            return make_error(ErrorKind::unsupported, code,
                              fmt::format("no permission to fill the memory of process {}; run "
                                          "memplate as root (it takes CAP_SYS_PTRACE)",
                                          pid));
        case EFAULT:
            return at("the template has pages where it has no memory area,");
        case EOPNOTSUPP:
            return at(
                "memory that cannot be filled (shared, of a file, locked, huge pages, or "
                "watched by userfaultfd)");
        case ENXIO:
            return at(
                "the template is not mapped where its pages are to be delivered at the "
                "first touch,");
        case ENOMEM:
            return make_error(ErrorKind::failed, code,
                              fmt::format("no memory to fill process {}: the host or its memory "
                                          "cgroup is at its limit",
                                          pid));
        case EINTR:
            return make_error(ErrorKind::interrupted, code, "interrupted");
        case EBADFD:
            return make_error(ErrorKind::failed, code, "the template is not complete");
        default:
            return plain_error(code, fmt::format("fill process {}", pid));
    }
}

}  // namespace memplate::engine
