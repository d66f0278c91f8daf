// SPDX-License-Identifier: Apache-2.0
//
// Which IPv4 address a sandbox gets. Nothing is stored but one "address" file per sandbox
// directory, and it counts only while that directory's lock is held: nothing can leak.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "util/result.h"

namespace memplate::sandbox {

/// Addresses are numbers in host byte order.
struct Subnet {
    uint32_t network = 0;
    unsigned prefix = 0;

    /// "10.213.0.0/16"; host bits must be zero, the prefix 8 to 30 (kind usage).
    static Result<Subnet> parse(const std::string& text);
    [[nodiscard]] uint32_t bridge() const { return network + 1; }
    [[nodiscard]] uint32_t first() const { return network + 2; }
    [[nodiscard]] uint32_t last() const { return network + (uint32_t{1} << (32 - prefix)) - 2; }
};

[[nodiscard]] std::string address_text(uint32_t address);
[[nodiscard]] Result<uint32_t> parse_address(const std::string& text);
/// Locally administered and made from the address: a cached neighbour entry is never wrong.
[[nodiscard]] std::string hardware_address(uint32_t address);
/// Name of the host's end of the link, at most 15 characters and unique like the address.
[[nodiscard]] std::string link_name(uint32_t address);

/// The first free address after `previous`, wrapping around: one that was just given up is not
/// given out again at once. Fails when all are in use.
[[nodiscard]] Result<uint32_t> choose_address(const Subnet& subnet, const std::set<uint32_t>& used,
                                              uint32_t previous);

/// Addresses of the live sandboxes beside `directory`.
[[nodiscard]] Result<std::set<uint32_t>> addresses_in_use(const std::string& directory);

}  // namespace memplate::sandbox
