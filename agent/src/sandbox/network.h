// SPDX-License-Identifier: Apache-2.0
//
// The network of a sandbox: a veth pair between its namespace and the host's bridge.
#pragma once

#include <sys/types.h>

#include <string>

#include "util/context.h"
#include "util/fd.h"

namespace memplate::sandbox {

/// Chooses an address, records it in `directory`/address and links the network namespace of process
/// `keeper` to the bridge (created if missing). `inside` is a NETLINK_ROUTE socket of that
/// namespace. Returns the address.
Result<std::string> connect_network(const Context& context, const std::string& directory,
                                    pid_t keeper, UniqueFd inside);

/// Removes what connect_network left on the host for `directory`, if anything.
Result<> disconnect_network(const Context& context, const std::string& directory);

}  // namespace memplate::sandbox
