// SPDX-License-Identifier: Apache-2.0
//
// What holders and their clients agree on.
#pragma once

#include <cstdint>
#include <string>

namespace memplate::engine {

// Descriptors a holder finds open when it starts.
inline constexpr int holder_first_descriptor = 3;
inline constexpr int holder_directory = 3;       ///< STATE/held
inline constexpr int holder_listener = 4;        ///< its socket
inline constexpr int holder_first_template = 5;  ///< module templates, then perhaps a pin

/// The file of STATE/held in which each key has a byte to lock.
inline constexpr const char* holder_lock = "lock";
[[nodiscard]] uint64_t holder_lock_offset(const std::string& key);

}  // namespace memplate::engine
