// SPDX-License-Identifier: Apache-2.0
//
// Owners for the objects of libnl, and its errors as Results.
#pragma once

#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/route.h>

#include <memory>
#include <string>

#include "util/fd.h"

namespace memplate::sandbox::netlink {

template <auto Free>
struct Deleter {
    template <class T>
    void operator()(T* object) const {
        Free(object);
    }
};

using Socket = std::unique_ptr<nl_sock, Deleter<nl_socket_free>>;
using Link = std::unique_ptr<rtnl_link, Deleter<rtnl_link_put>>;
using Address = std::unique_ptr<nl_addr, Deleter<nl_addr_put>>;
using InterfaceAddress = std::unique_ptr<rtnl_addr, Deleter<rtnl_addr_put>>;
using Neighbour = std::unique_ptr<rtnl_neigh, Deleter<rtnl_neigh_put>>;
using Route = std::unique_ptr<rtnl_route, Deleter<rtnl_route_put>>;
using Cache = std::unique_ptr<nl_cache, Deleter<nl_cache_free>>;

/// NETLINK_ROUTE of the caller's network namespace.
Result<Socket> open_route();
/// The same through a socket made in another network namespace.
Result<Socket> adopt_route(UniqueFd fd);

/// A result of libnl (negative: failed) as one of ours. What the kernel does not know how to make
/// becomes ErrorKind::unsupported.
Result<> check(int result, const std::string& what);

/// nullptr if there is no link of that name.
Result<Link> find_link(nl_sock* socket, const std::string& name);
/// "10.213.0.1/16", "02:…": text that is known to be well-formed.
Result<Address> make_address(const std::string& text, int family);

/// A permanent entry: `address` is at `hardware` on the interface.
Result<> add_neighbour(nl_sock* socket, int interface, const std::string& address,
                       const std::string& hardware);
Result<> add_interface_address(nl_sock* socket, int interface, const std::string& address);

}  // namespace memplate::sandbox::netlink
