// SPDX-License-Identifier: Apache-2.0
//
// Little-endian integers and NUL-padded text at fixed places of a block.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace memplate::pool {

template <std::integral T>
void store(std::span<std::byte> block, size_t at, T value) {
    if constexpr (std::endian::native == std::endian::big) value = std::byteswap(value);
    std::memcpy(block.subspan(at, sizeof(T)).data(), &value, sizeof(T));
}

template <std::integral T>
[[nodiscard]] T load(std::span<const std::byte> block, size_t at) {
    T value;
    std::memcpy(&value, block.subspan(at, sizeof(T)).data(), sizeof(T));
    if constexpr (std::endian::native == std::endian::big) value = std::byteswap(value);
    return value;
}

inline constexpr size_t magic_bytes = 8;

inline void store_magic(std::span<std::byte> block, std::string_view magic) {
    std::memcpy(block.data(), magic.data(), magic_bytes);
}

[[nodiscard]] inline bool has_magic(std::span<const std::byte> block, std::string_view magic) {
    return std::memcmp(block.data(), magic.data(), magic_bytes) == 0;
}

/// Cut to what fits with a NUL behind it; the block must be zero there.
inline void store_text(std::span<std::byte> field, std::string_view text) {
    std::memcpy(field.data(), text.data(), std::min(text.size(), field.size() - 1));
}

/// Nothing unless the field is printable ASCII followed by at least one NUL and only NULs.
[[nodiscard]] inline std::optional<std::string> load_text(std::span<const std::byte> field) {
    const std::string_view raw(reinterpret_cast<const char*>(field.data()), field.size());
    const std::string_view text = raw.substr(0, raw.find('\0'));
    if (text.size() == raw.size()) return std::nullopt;
    if (!std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; }))
        return std::nullopt;
    if (!std::ranges::all_of(raw.substr(text.size()), [](char c) { return c == '\0'; }))
        return std::nullopt;
    return std::string(text);
}

[[nodiscard]] inline bool all_zero(std::span<const std::byte> bytes) {
    return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace memplate::pool
