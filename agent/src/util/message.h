// SPDX-License-Identifier: Apache-2.0
//
// Messages of AF_UNIX SEQPACKET sockets with descriptors beside them. Uses the C library only: the
// keeper of sandboxes is built from it, too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace memplate {

/// Sends one message with at most 253 descriptors. Returns 0 or an errno. `flags` are added to
/// those of sendmsg(2).
int send_message(int socket, std::string_view body, const std::vector<int>& descriptors,
                 int flags = 0);

/// Receives one message; the descriptors (close-on-exec) are the caller's to close. Returns 0 or an
/// errno; EPIPE if the peer is gone.
int receive_message(int socket, std::string& body, std::vector<int>& descriptors);

}  // namespace memplate
