// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace memplate {

/// CRC-32C (Castagnoli, reflected, init and xorout 0xffffffff), hardware-accelerated by ISA-L.
/// Pass the previous result as `seed` to continue over the next buffer.
[[nodiscard]] uint32_t crc32c(std::span<const std::byte> data, uint32_t seed = 0);

/// 128-bit XXH3 over a stream of buffers.
class Xxh3Stream {
  public:
    Xxh3Stream();
    void update(std::span<const std::byte> data);
    /// 32 hexadecimal digits, canonical (big endian) order.
    [[nodiscard]] std::string hex() const;

  private:
    struct StateFree {
        void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
    };
    std::unique_ptr<XXH3_state_t, StateFree> state_;
};

}  // namespace memplate
