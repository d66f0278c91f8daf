// SPDX-License-Identifier: Apache-2.0
#include "gpu/driver_probes.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace memplate::gpu {
namespace {

// Of Linux 6.6's linux/bpf.h, which not everybody has.
constexpr auto trace_uprobe_multi = static_cast<bpf_attach_type>(48);
constexpr uint32_t at_function_return = 1;

struct LinkCreate {
    uint32_t program;
    uint32_t target;
    uint32_t attach_type;
    uint32_t flags;
    uint64_t path;
    uint64_t offsets;
    uint64_t reference_counters;
    uint64_t cookies;
    uint32_t count;
    uint32_t probe_flags;
    uint32_t pid;
    uint32_t unused;
};

uint64_t address_of(const void* pointer) {
    return reinterpret_cast<uint64_t>(pointer);
}

/// A descriptor of the link, or -1 and errno.
int create_link(const bpf_program* program, const char* path, const std::vector<uint64_t>& offsets,
                const std::vector<uint64_t>& cookies, uint32_t flags) {
    LinkCreate link{};
    link.program = static_cast<uint32_t>(bpf_program__fd(program));
    link.attach_type = trace_uprobe_multi;
    link.path = address_of(path);
    link.offsets = address_of(offsets.data());
    link.cookies = address_of(cookies.data());
    link.count = static_cast<uint32_t>(offsets.size());
    link.probe_flags = flags;
    return static_cast<int>(::syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof link));
}

}  // namespace

void DriverProbes::prepare(bpf_program* program) {
    bpf_program__set_expected_attach_type(program, trace_uprobe_multi);
    bpf_program__set_autoattach(program, false);
}

Result<> DriverProbes::check(const bpf_program* program) {
    // A kernel that can do it gets so far as to look for the file.
    const UniqueFd link(create_link(program, "/proc/self/no such file", {0}, {0}, 0));
    if (!link && errno == ENOENT) return {};
    return fail(ErrorKind::unsupported,
                "this kernel sets probes at programs one by one only; boot Linux 6.6 or newer");
}

Result<> DriverProbes::set(const bpf_program* program, bool at_return, const std::string& path,
                           const std::vector<Place>& places) {
    if (places.empty()) return {};
    std::vector<uint64_t> offsets;
    std::vector<uint64_t> cookies;
    for (const Place& place : places) {
        offsets.push_back(place.offset);
        cookies.push_back(place.cookie);
    }
    UniqueFd link(
        create_link(program, path.c_str(), offsets, cookies, at_return ? at_function_return : 0));
    if (!link) return fail_errno(errno, "probes at the driver's calls");
    links_.push_back(std::move(link));
    return {};
}

}  // namespace memplate::gpu
