// SPDX-License-Identifier: Apache-2.0
#include "trace/bpf_loader.h"

#include <unistd.h>

namespace memplate::trace {

Failure cannot_load(int error) {
    const auto refuse = [error](std::string_view why) {
        Failure failure = fail(ErrorKind::unsupported, fmt::format("BPF programs: {}", why));
        failure.error().code = error;
        return failure;
    };
    if (::access("/sys/kernel/btf/vmlinux", F_OK) != 0)
        return refuse(
            "this kernel does not describe its types (no /sys/kernel/btf/vmlinux); boot one with "
            "CONFIG_DEBUG_INFO_BTF=y");
    if (error == ENOSYS)
        return refuse("this kernel has no BPF; boot one with CONFIG_BPF_SYSCALL=y");
    if ((error == EPERM || error == EACCES) && ::geteuid() != 0)
        return refuse("not permitted; run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN");
    if (error == EPERM)
        return refuse(
            "the kernel refuses them even to root: a container without CAP_BPF and CAP_PERFMON, or "
            "a locked down kernel (see /sys/kernel/security/lockdown)");
    return refuse(fmt::format("the kernel does not take them ({})", ::strerrordesc_np(error)));
}

Result<> share_maps(bpf_object* object, const Common& common) {
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object) {
        const auto found = common.maps.find(bpf_map__name(map));
        if (found == common.maps.end()) continue;
        if (const int error = bpf_map__reuse_fd(map, found->second); error != 0)
            return fail_errno(-error, fmt::format("BPF map {}", found->first));
    }
    return {};
}

void take_maps(const bpf_object* object, Common& common) {
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object) {
        if (!bpf_map__is_internal(map)) common.maps.emplace(bpf_map__name(map), bpf_map__fd(map));
    }
}

}  // namespace memplate::trace
