// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "util/result.h"

namespace memplate::gpu {

/// Sends a tensor of 4-byte elements through a stream, framed as StreamBox's functions frame it:
/// u32 bytes, u32 dimensions, their u32 sizes, the data; little-endian. 4,000,000 bytes are 1000 by
/// 1000 elements as there, all else is a vector. A reader that is gone is ECONNRESET.
[[nodiscard]] Result<> send_tensor(int fd, std::span<const std::byte> data);
/// Receives one that fills `data` exactly, however the stream cuts it.
[[nodiscard]] Result<> receive_tensor(int fd, std::span<std::byte> data);

}  // namespace memplate::gpu
