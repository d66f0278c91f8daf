// SPDX-License-Identifier: Apache-2.0
#include "sandbox/netlink.h"

#include <linux/neighbour.h>
#include <netlink/errno.h>
#include <sys/socket.h>

namespace memplate::sandbox::netlink {

Result<> check(int result, const std::string& what) {
    if (result >= 0) return {};
    const int error = -result;
    auto failure = fail(
        error == NLE_OPNOTSUPP ? ErrorKind::unsupported : ErrorKind::failed,
        fmt::format("{}: {}", what,
                    error == NLE_OPNOTSUPP ? "not supported by this kernel" : nl_geterror(error)));
    failure.error().code = error == NLE_EXIST ? EEXIST : 0;
    return failure;
}

Result<Socket> open_route() {
    Socket socket(nl_socket_alloc());
    if (!socket) return fail_errno(ENOMEM, "netlink socket");
    TRY(check(nl_connect(socket.get(), NETLINK_ROUTE), "netlink socket"));
    return socket;
}

Result<Socket> adopt_route(UniqueFd fd) {
    Socket socket(nl_socket_alloc());
    if (!socket) return fail_errno(ENOMEM, "netlink socket");
    TRY(check(nl_socket_set_fd(socket.get(), NETLINK_ROUTE, fd.get()), "netlink socket"));
    (void)fd.release();  // nl_socket_free() closes it
    return socket;
}

Result<Link> find_link(nl_sock* socket, const std::string& name) {
    rtnl_link* link = nullptr;
    const int result = rtnl_link_get_kernel(socket, 0, name.c_str(), &link);
    if (result == -NLE_NODEV || result == -NLE_OBJ_NOTFOUND) return Link();
    TRY(check(result, "network link " + name));
    return Link(link);
}

Result<Address> make_address(const std::string& text, int family) {
    nl_addr* address = nullptr;
    TRY(check(nl_addr_parse(text.c_str(), family, &address), "address " + text));
    return Address(address);
}

Result<> add_neighbour(nl_sock* socket, int interface, const std::string& address,
                       const std::string& hardware) {
    TRY_ASSIGN(const Address destination, make_address(address, AF_INET));
    TRY_ASSIGN(const Address link_address, make_address(hardware, AF_LLC));
    const Neighbour neighbour(rtnl_neigh_alloc());
    if (!neighbour) return fail_errno(ENOMEM, "neighbour");
    rtnl_neigh_set_ifindex(neighbour.get(), interface);
    rtnl_neigh_set_dst(neighbour.get(), destination.get());
    rtnl_neigh_set_lladdr(neighbour.get(), link_address.get());
    rtnl_neigh_set_state(neighbour.get(), NUD_PERMANENT);
    return check(rtnl_neigh_add(socket, neighbour.get(), NLM_F_CREATE | NLM_F_REPLACE),
                 "neighbour entry of " + address);
}

Result<> add_interface_address(nl_sock* socket, int interface, const std::string& address) {
    TRY_ASSIGN(const Address local, make_address(address, AF_INET));
    const InterfaceAddress entry(rtnl_addr_alloc());
    if (!entry) return fail_errno(ENOMEM, "address");
    rtnl_addr_set_ifindex(entry.get(), interface);
    TRY(check(rtnl_addr_set_local(entry.get(), local.get()), "address " + address));
    const int result = rtnl_addr_add(socket, entry.get(), 0);
    return result == -NLE_EXIST ? Result<>() : check(result, "set address " + address);
}

}  // namespace memplate::sandbox::netlink
