// SPDX-License-Identifier: Apache-2.0
//
// From a path to a medium. A path names a pool file, a device DAX node, or a reference: a small
// text file that stands for a pool on a device, so that the pool has a name of its own and is found
// by its UUID if the kernel numbers the devices differently after a restart.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "pool/dax_device.h"
#include "pool/medium.h"

namespace memplate::pool {

struct PoolReference {
    std::string device;  ///< where the pool was when the reference was made
    std::string uuid;
    bool operator==(const PoolReference&) const = default;
};
[[nodiscard]] std::string format_reference(const PoolReference& reference);
/// Nothing if the text is something else.
[[nodiscard]] std::optional<PoolReference> parse_reference(std::string_view text);
/// Nothing if there is no file, or if it is something else.
[[nodiscard]] std::optional<PoolReference> read_reference(const std::string& path);

[[nodiscard]] Result<std::shared_ptr<Medium>> open_medium(const std::string& path, OpenMode mode);
/// The device among `inventory` that holds the pool.
[[nodiscard]] Result<std::shared_ptr<Medium>> follow_reference(const PoolReference& reference,
                                                               const std::string& path,
                                                               OpenMode mode,
                                                               const DaxInventory& inventory);

}  // namespace memplate::pool
