// SPDX-License-Identifier: Apache-2.0
//
// Device DAX as this host sees it (libdaxctl), and whether a device can carry a pool.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <vector>

#include "util/result.h"

namespace memplate::pool {

struct DaxDevice {
    enum class Mode { devdax, system_ram, disabled };
    /// Where the kernel keeps the page structures of the device's memory.
    enum class Map { memory, device, unknown };

    std::string name;  ///< "dax0.0"
    unsigned major = 0;
    unsigned minor = 0;
    uint64_t bytes = 0;
    uint64_t alignment = 0;
    Mode mode = Mode::devdax;
    Map map = Map::memory;
    /// "namespace0.0" if ndctl manages the device; empty for others (CXL volatile, soft-reserved).
    std::string name_space;
};

/// The device DAX devices of this host; tests have one of their own.
class DaxInventory {
  public:
    virtual ~DaxInventory() = default;
    [[nodiscard]] virtual Result<std::vector<DaxDevice>> devices() const = 0;
};

class SystemDaxInventory final : public DaxInventory {
  public:
    [[nodiscard]] Result<std::vector<DaxDevice>> devices() const override;
};

/// The device at `path`. What is not one is refused with what to give instead.
[[nodiscard]] Result<DaxDevice> find_dax_device(const DaxInventory& inventory,
                                                const std::string& path);

/// Refuses a device that cannot carry a pool, with the command that changes that.
[[nodiscard]] Result<> check_dax_device(const DaxDevice& device);

/// Where the page structures are: `region` is the sysfs directory above the device. Only devices
/// that libnvdimm makes have a choice; all others use memory.
[[nodiscard]] DaxDevice::Map map_location(const std::string& region);

/// Without libdaxctl, for opening: quick.
[[nodiscard]] bool is_dax_node(const struct stat& node);
[[nodiscard]] Result<uint64_t> dax_node_bytes(const struct stat& node);

}  // namespace memplate::pool
