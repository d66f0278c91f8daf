// SPDX-License-Identifier: Apache-2.0
#include "sandbox/network.h"

#include <fcntl.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <netlink/errno.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/nexthop.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <set>

#include "sandbox/address.h"
#include "sandbox/netlink.h"
#include "sandbox/sandbox.h"
#include "util/fs.h"
#include "util/lock.h"
#include "util/text.h"

namespace memplate::sandbox {
namespace {

constexpr const char* inner_name = "eth0";

/// Everything that creates or removes links, and the choice of addresses, happens under this lock,
/// whichever agent of the host does it. The file also holds the address given out last.
Result<LockFile> lock_network(const Context& context) {
    TRY(make_directories(context.settings.state_dir));
    return LockFile::acquire(context.settings.state_dir + "/network.lock");
}

uint32_t previous_address(const LockFile& lock) {
    std::array<char, 32> text{};
    if (::pread(lock.fd(), text.data(), text.size() - 1, 0) <= 0) return 0;
    return parse_address(std::string(trim(text.data()))).value_or(0);
}

void remember_address(const LockFile& lock, uint32_t address) {
    // A fixed width, so that a shorter address leaves nothing of a longer one. If it cannot be
    // written, the choice merely starts from the front next time.
    const std::string text = fmt::format("{:<16}\n", address_text(address));
    (void)pwrite_all(lock.fd(), bytes_of(text), 0);
}

/// Index of the bridge, made if missing. Its hardware address is fixed: by default it would change
/// with the links on it, and the entries inside the sandboxes would go wrong.
Result<int> ensure_bridge(nl_sock* socket, const std::string& name, const Subnet& subnet) {
    TRY_ASSIGN(netlink::Link bridge, netlink::find_link(socket, name));
    if (!bridge) {
        const netlink::Link wanted(rtnl_link_bridge_alloc());
        if (!wanted) return fail_errno(ENOMEM, "bridge");
        TRY_ASSIGN(const netlink::Address hardware,
                   netlink::make_address(hardware_address(subnet.bridge()), AF_LLC));
        rtnl_link_set_name(wanted.get(), name.c_str());
        rtnl_link_set_addr(wanted.get(), hardware.get());
        rtnl_link_set_flags(wanted.get(), IFF_UP);
        TRY(netlink::check(rtnl_link_add(socket, wanted.get(), NLM_F_CREATE | NLM_F_EXCL),
                           "create bridge " + name));
        TRY_ASSIGN(bridge, netlink::find_link(socket, name));
        if (!bridge) return fail(fmt::format("bridge {} vanished", name));
    }
    const char* type = rtnl_link_get_type(bridge.get());
    if (type == nullptr || std::string_view(type) != "bridge")
        return fail(
            fmt::format("{}: a link of this name exists and is no bridge; set another "
                        "'bridge' in the configuration",
                        name));
    const int index = rtnl_link_get_ifindex(bridge.get());
    TRY(netlink::add_interface_address(
        socket, index, fmt::format("{}/{}", address_text(subnet.bridge()), subnet.prefix)));
    return index;
}

/// The pair, host end up and on the bridge, in one message. EEXIST if the name is taken.
Result<> add_pair(nl_sock* socket, const std::string& name, int bridge, pid_t keeper,
                  uint32_t address) {
    const netlink::Link link(rtnl_link_veth_alloc());
    if (!link) return fail_errno(ENOMEM, "veth");
    const netlink::Link peer(rtnl_link_veth_get_peer(link.get()));
    TRY_ASSIGN(const netlink::Address hardware,
               netlink::make_address(hardware_address(address), AF_LLC));
    rtnl_link_set_name(link.get(), name.c_str());
    rtnl_link_set_master(link.get(), bridge);
    rtnl_link_set_flags(link.get(), IFF_UP);
    rtnl_link_set_name(peer.get(), inner_name);
    rtnl_link_set_addr(peer.get(), hardware.get());
    rtnl_link_set_ns_pid(peer.get(), keeper);
    return netlink::check(rtnl_link_add(socket, link.get(), NLM_F_CREATE | NLM_F_EXCL),
                          "create link " + name);
}

/// The host knows where the sandbox is before the first packet: no address resolution, and the
/// bridge sends to one port instead of all.
Result<> add_host_entries(nl_sock* socket, const std::string& name, int bridge, uint32_t address) {
    TRY(netlink::add_neighbour(socket, bridge, address_text(address), hardware_address(address)));
    TRY_ASSIGN(const netlink::Link port, netlink::find_link(socket, name));
    if (!port) return fail(fmt::format("link {} vanished", name));
    TRY_ASSIGN(const netlink::Address hardware,
               netlink::make_address(hardware_address(address), AF_LLC));
    const netlink::Neighbour entry(rtnl_neigh_alloc());
    if (!entry) return fail_errno(ENOMEM, "bridge entry");
    rtnl_neigh_set_family(entry.get(), AF_BRIDGE);
    rtnl_neigh_set_ifindex(entry.get(), rtnl_link_get_ifindex(port.get()));
    rtnl_neigh_set_lladdr(entry.get(), hardware.get());
    rtnl_neigh_set_flags(entry.get(), NTF_MASTER);
    rtnl_neigh_set_state(entry.get(), NUD_NOARP | NUD_REACHABLE);
    return netlink::check(rtnl_neigh_add(socket, entry.get(), NLM_F_CREATE | NLM_F_REPLACE),
                          "bridge entry of " + name);
}

Result<> configure_inside(UniqueFd inside, const Subnet& subnet, uint32_t address) {
    TRY_ASSIGN(const netlink::Socket socket, netlink::adopt_route(std::move(inside)));
    TRY_ASSIGN(const netlink::Link link, netlink::find_link(socket.get(), inner_name));
    if (!link) return fail("eth0 is missing in the sandbox");
    const int index = rtnl_link_get_ifindex(link.get());
    const netlink::Link up(rtnl_link_alloc());
    if (!up) return fail_errno(ENOMEM, "link");
    rtnl_link_set_ifindex(up.get(), index);
    rtnl_link_set_flags(up.get(), IFF_UP);
    TRY(netlink::check(rtnl_link_change(socket.get(), up.get(), up.get(), 0), "eth0 up"));
    TRY(netlink::add_interface_address(socket.get(), index,
                                       fmt::format("{}/{}", address_text(address), subnet.prefix)));
    const std::string gateway = address_text(subnet.bridge());
    TRY(netlink::add_neighbour(socket.get(), index, gateway, hardware_address(subnet.bridge())));

    TRY_ASSIGN(const netlink::Address everywhere, netlink::make_address("0.0.0.0/0", AF_INET));
    TRY_ASSIGN(const netlink::Address via, netlink::make_address(gateway, AF_INET));
    const netlink::Route route(rtnl_route_alloc());
    rtnl_nexthop* hop = rtnl_route_nh_alloc();
    if (!route || hop == nullptr) return fail_errno(ENOMEM, "route");
    rtnl_route_nh_set_ifindex(hop, index);
    rtnl_route_nh_set_gateway(hop, via.get());
    rtnl_route_add_nexthop(route.get(), hop);  // the route owns it from here
    rtnl_route_set_family(route.get(), AF_INET);
    rtnl_route_set_dst(route.get(), everywhere.get());
    return netlink::check(rtnl_route_add(socket.get(), route.get(), 0), "default route");
}

}  // namespace

Result<std::string> connect_network(const Context& context, const std::string& directory,
                                    pid_t keeper, UniqueFd inside) {
    TRY_ASSIGN(const Subnet subnet, Subnet::parse(context.settings.subnet));
    uint32_t address = 0;
    {
        TRY_ASSIGN(const LockFile lock, lock_network(context));
        TRY_ASSIGN(const netlink::Socket socket, netlink::open_route());
        TRY_ASSIGN(const int bridge, ensure_bridge(socket.get(), context.settings.bridge, subnet));
        TRY_ASSIGN(std::set<uint32_t> used, addresses_in_use(directory));
        uint32_t previous = previous_address(lock);
        for (;;) {
            TRY_ASSIGN(address, choose_address(subnet, used, previous));
            // Recorded first: whoever cleans up after a crash finds the link by it.
            TRY(write_file_atomic(AT_FDCWD, directory + "/address", address_text(address) + "\n"));
            auto added = add_pair(socket.get(), link_name(address), bridge, keeper, address);
            if (added) break;
            ::unlink((directory + "/address").c_str());
            // The link of a sandbox that just ended goes a moment after its processes.
            if (added.error().code != EEXIST) return std::unexpected(std::move(added.error()));
            used.insert(address);
            previous = address;
        }
        remember_address(lock, address);
        TRY(add_host_entries(socket.get(), link_name(address), bridge, address));
    }
    TRY(configure_inside(std::move(inside), subnet, address));
    return address_text(address);
}

Result<> disconnect_network(const Context& context, const std::string& directory) {
    const auto text = read_file(directory + "/address", 64);
    if (!text) return {};  // it never had one
    TRY_ASSIGN(const uint32_t address, parse_address(std::string(trim(*text))));
    TRY_ASSIGN(const LockFile lock, lock_network(context));
    // The address of a dead sandbox may have been given to a live one already.
    TRY_ASSIGN(const std::set<uint32_t> used, addresses_in_use(directory));
    if (used.contains(address)) {
        ::unlink((directory + "/address").c_str());
        return {};
    }
    TRY_ASSIGN(const netlink::Socket socket, netlink::open_route());
    TRY_ASSIGN(const netlink::Link link, netlink::find_link(socket.get(), link_name(address)));
    if (link) {
        const int result = rtnl_link_delete(socket.get(), link.get());
        // The end of the network namespace may have taken it meanwhile.
        if (result != -NLE_NODEV && result != -NLE_OBJ_NOTFOUND)
            TRY(netlink::check(result, "remove link " + link_name(address)));
    }
    TRY_ASSIGN(const netlink::Link bridge,
               netlink::find_link(socket.get(), context.settings.bridge));
    if (bridge) {
        TRY_ASSIGN(const netlink::Address destination,
                   netlink::make_address(address_text(address), AF_INET));
        const netlink::Neighbour neighbour(rtnl_neigh_alloc());
        if (!neighbour) return fail_errno(ENOMEM, "neighbour");
        rtnl_neigh_set_ifindex(neighbour.get(), rtnl_link_get_ifindex(bridge.get()));
        rtnl_neigh_set_dst(neighbour.get(), destination.get());
        rtnl_neigh_delete(socket.get(), neighbour.get(), 0);  // a missing entry is fine
    }
    ::unlink((directory + "/address").c_str());
    return {};
}

Result<> remove_unused_bridge(const Context& context) {
    TRY_ASSIGN(const LockFile lock, lock_network(context));
    TRY_ASSIGN(const netlink::Socket socket, netlink::open_route());
    TRY_ASSIGN(const netlink::Link bridge,
               netlink::find_link(socket.get(), context.settings.bridge));
    if (!bridge) return {};
    TRY_ASSIGN(const Subnet subnet, Subnet::parse(context.settings.subnet));
    TRY_ASSIGN(const netlink::Address ours,
               netlink::make_address(hardware_address(subnet.bridge()), AF_LLC));
    nl_addr* hardware = rtnl_link_get_addr(bridge.get());
    // A bridge that somebody else made, and configured to be used here, stays.
    if (hardware == nullptr || nl_addr_cmp(hardware, ours.get()) != 0) return {};
    nl_cache* links = nullptr;
    TRY(netlink::check(rtnl_link_alloc_cache(socket.get(), AF_UNSPEC, &links), "list links"));
    const netlink::Cache cache(links);
    const int index = rtnl_link_get_ifindex(bridge.get());
    for (auto* object = nl_cache_get_first(cache.get()); object != nullptr;
         object = nl_cache_get_next(object)) {
        if (rtnl_link_get_master(reinterpret_cast<rtnl_link*>(object)) == index) return {};
    }
    return netlink::check(rtnl_link_delete(socket.get(), bridge.get()),
                          "remove bridge " + context.settings.bridge);
}

}  // namespace memplate::sandbox
