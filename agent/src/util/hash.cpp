// SPDX-License-Identifier: Apache-2.0
#include "util/hash.h"

#include <fmt/format.h>
#include <isa-l/crc.h>

#include <algorithm>
#include <new>

namespace memplate {

uint32_t crc32c(std::span<const std::byte> data, uint32_t seed) {
    uint32_t crc = ~seed;
    while (!data.empty()) {
        const size_t n = std::min<size_t>(data.size(), size_t{1} << 30);
        // ISA-L's prototype lacks const; it does not write to the buffer.
        auto* bytes =
            const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(data.data()));
        crc = crc32_iscsi(bytes, static_cast<int>(n), crc);
        data = data.subspan(n);
    }
    return ~crc;
}

Xxh3Stream::Xxh3Stream() : state_(XXH3_createState()) {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
}

void Xxh3Stream::update(std::span<const std::byte> data) {
    XXH3_128bits_update(state_.get(), data.data(), data.size());
}

std::string Xxh3Stream::hex() const {
    const XXH128_hash_t digest = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", digest.high64, digest.low64);
}

}  // namespace memplate
