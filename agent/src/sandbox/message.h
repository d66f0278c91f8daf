// SPDX-License-Identifier: Apache-2.0
//
// The wire between agent and keeper: one JSON object per message of an AF_UNIX SEQPACKET socket,
// descriptors beside it. Shared by both programs, so it uses the C library only.
//
// Requests carry "operation"; each gets one reply, {"ok":true, …} or {"ok":false,"error","code"}.
// Between replies the keeper sends events: {"event":"exit","pid","status"}.
#pragma once

#include <string_view>

#include "util/message.h"

namespace memplate::sandbox {

/// Descriptors the keeper finds open when it starts.
inline constexpr int control_descriptor = 3;    ///< the socket
inline constexpr int directory_descriptor = 4;  ///< the sandbox's directory: takes status.json
inline constexpr int lock_descriptor = 5;       ///< kept open, never used: its lock says "alive"

/// Where things lie inside every sandbox.
inline constexpr std::string_view criu_mount = "/run/memplate/criu";
inline constexpr std::string_view kdat_inside = "/run/criu.kdat";

using memplate::receive_message;
using memplate::send_message;

}  // namespace memplate::sandbox
