// SPDX-License-Identifier: Apache-2.0
#include "pool/dax_device.h"

#include <daxctl/libdaxctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "pool/format.h"
#include "util/fs.h"
#include "util/text.h"

namespace memplate::pool {
namespace {

constexpr uint64_t large_alignment = uint64_t{2} << 20;

struct ContextFree {
    void operator()(daxctl_ctx* context) const { daxctl_unref(context); }
};

/// The one line of a sysfs attribute; empty if there is none.
std::string attribute(const std::string& path) {
    const auto text = read_file(path);
    return text ? std::string(trim(*text)) : std::string();
}

DaxDevice describe(daxctl_dev* device, daxctl_region* region) {
    DaxDevice out;
    out.name = daxctl_dev_get_devname(device);
    out.major = static_cast<unsigned>(daxctl_dev_get_major(device));
    out.minor = static_cast<unsigned>(daxctl_dev_get_minor(device));
    out.bytes = daxctl_dev_get_size(device);
    out.alignment = daxctl_dev_get_align(device);
    // Kernels before 5.10 know an alignment of the region only.
    if (out.alignment == 0 || out.alignment == ~0UL)
        out.alignment = daxctl_region_get_align(region);
    if (daxctl_dev_is_enabled(device) == 0)
        out.mode = DaxDevice::Mode::disabled;
    else if (daxctl_dev_get_memory(device) != nullptr)
        out.mode = DaxDevice::Mode::system_ram;
    const std::string path = daxctl_region_get_path(region);
    out.map = map_location(path);
    out.name_space = attribute(path + "/namespace");
    return out;
}

std::string sysfs_of(const struct stat& node) {
    return fmt::format("/sys/dev/char/{}:{}", ::major(node.st_rdev), ::minor(node.st_rdev));
}

std::string base_name(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
}

/// The bus or class that a sysfs directory belongs to; empty if it says nothing.
std::string subsystem_of(const std::string& directory) {
    std::array<char, 4096> target{};
    const ssize_t length =
        ::readlink((directory + "/subsystem").c_str(), target.data(), target.size());
    return length <= 0 ? "" : base_name({target.data(), static_cast<size_t>(length)});
}

Failure unsupported(const DaxDevice& device, std::string_view why, std::string_view command,
                    std::string_view consequence) {
    return fail(ErrorKind::unsupported,
                fmt::format("{}: {}; `{}` {}", device.name, why, command, consequence));
}

std::string create_namespace(const DaxDevice& device) {
    return fmt::format("ndctl create-namespace -f -e {} -m devdax -a {} -M mem", device.name_space,
                       device.alignment == large_alignment ? large_alignment : page_size);
}

}  // namespace

Result<std::vector<DaxDevice>> SystemDaxInventory::devices() const {
    daxctl_ctx* raw = nullptr;
    if (const int error = daxctl_new(&raw); error != 0) return fail_errno(-error, "libdaxctl");
    const std::unique_ptr<daxctl_ctx, ContextFree> context(raw);
    std::vector<DaxDevice> found;
    daxctl_region* region = nullptr;
    daxctl_region_foreach(context.get(), region) {
        daxctl_dev* device = nullptr;
        daxctl_dev_foreach(region, device) found.push_back(describe(device, region));
    }
    return found;
}

Result<DaxDevice> find_dax_device(const DaxInventory& inventory, const std::string& path) {
    struct stat node{};
    const int missing = ::stat(path.c_str(), &node) == 0 ? 0 : errno;
    if (missing != 0 && missing != ENOENT) return fail_errno(missing, path);
    if (missing == 0 && S_ISBLK(node.st_mode))
        return fail(ErrorKind::unsupported,
                    fmt::format("{}: is a block device, not device DAX; `ndctl create-namespace -f "
                                "-e NAMESPACE -m devdax -M mem` makes its namespace one (`ndctl "
                                "list -N` shows which)",
                                path));
    if (missing == 0 && !S_ISCHR(node.st_mode))
        return fail(ErrorKind::usage,
                    path +
                        ": is not a device; give a device DAX node such as /dev/dax0.0, or omit "
                        "--dax for a pool in a file");
    TRY_ASSIGN(const auto devices, inventory.devices());
    for (const DaxDevice& device : devices) {
        // A device that serves as memory, or none at all, has no node.
        if (missing == 0
                ? device.major == ::major(node.st_rdev) && device.minor == ::minor(node.st_rdev)
                : device.name == base_name(path))
            return device;
    }
    auto failure = fail(
        ErrorKind::unsupported,
        missing == 0
            ? fmt::format("{}: is not a device DAX device; `daxctl list` shows those there are",
                          path)
            : fmt::format("{}: no such device; `daxctl list` shows those there are, `ndctl list "
                          "-Ni` the namespaces that could become one, `modprobe -a device_dax "
                          "dax_pmem dax_hmem dax_cxl` loads their drivers",
                          path));
    failure.error().code = missing == 0 ? ENOTTY : ENOENT;
    return failure;
}

Result<> check_dax_device(const DaxDevice& device) {
    const std::string reconfigure =
        fmt::format("daxctl reconfigure-device --mode=devdax {}", device.name);
    if (device.mode == DaxDevice::Mode::system_ram)
        return unsupported(device, "the device serves as system memory", reconfigure + " --force",
                           "takes it back");
    if (device.mode == DaxDevice::Mode::disabled)
        return unsupported(device, "the device is disabled", reconfigure, "enables it");
    if (device.map == DaxDevice::Map::unknown && device.name_space.empty())
        return fail(ErrorKind::unsupported,
                    device.name +
                        ": it is not known where the kernel keeps the page structures of the "
                        "device; check that /sys is mounted");
    if (device.map != DaxDevice::Map::memory)
        return unsupported(device,
                           device.map == DaxDevice::Map::device
                               ? "the kernel keeps its page structures on the device itself, where "
                                 "hosts that share it overwrite each other's (--map=dev)"
                               : "it is not known where the kernel keeps its page structures",
                           create_namespace(device),
                           "keeps them in memory (and destroys what the namespace holds)");
    if (device.alignment != page_size && device.alignment != large_alignment) {
        const std::string why = fmt::format("its alignment is {}, a pool needs 4 KiB or 2 MiB",
                                            format_size(device.alignment));
        if (device.name_space.empty())
            return unsupported(device, why,
                               fmt::format("daxctl reconfigure-device --mode=devdax --align={} {}",
                                           large_alignment, device.name),
                               "changes it");
        return unsupported(device, why, create_namespace(device),
                           "changes it (and destroys what the namespace holds)");
    }
    if (device.bytes < min_pool_bytes)
        return fail(ErrorKind::unsupported,
                    fmt::format("{}: the device has {}, a pool at least {}", device.name,
                                format_size(device.bytes), format_size(min_pool_bytes)));
    return {};
}

DaxDevice::Map map_location(const std::string& region) {
    const std::string bus = subsystem_of(region);
    if (bus.empty()) return DaxDevice::Map::unknown;
    if (bus != "nd") return DaxDevice::Map::memory;
    const std::string mode = attribute(region + "/mode");
    if (mode == "ram") return DaxDevice::Map::memory;
    return mode == "pmem" ? DaxDevice::Map::device : DaxDevice::Map::unknown;
}

bool is_dax_node(const struct stat& node) {
    return S_ISCHR(node.st_mode) && subsystem_of(sysfs_of(node)) == "dax";
}

Result<uint64_t> dax_node_bytes(const struct stat& node) {
    TRY_ASSIGN(const std::string text, read_file(sysfs_of(node) + "/size"));
    return parse_unsigned(trim(text));
}

}  // namespace memplate::pool
