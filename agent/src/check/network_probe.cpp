// SPDX-License-Identifier: Apache-2.0
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <sched.h>
#include <unistd.h>

#include <functional>
#include <memory>

#include "check/child.h"
#include "check/probes.h"

namespace memplate::check {
namespace {

struct FreeSocket {
    void operator()(nl_sock* socket) const { ::nl_socket_free(socket); }
};

Result<> netlink_result(int code, std::string_view what) {
    if (code < 0) return fail(fmt::format("{}: {}", what, ::nl_geterror(code)));
    return {};
}

/// Runs `work` with a route socket in a network namespace that ends with the child.
Result<> in_network_namespace(const std::function<Result<>(nl_sock*)>& work) {
    return in_child([&work]() -> Result<> {
        if (::unshare(CLONE_NEWNET) != 0) return fail_errno(errno, "unshare");
        const std::unique_ptr<nl_sock, FreeSocket> socket(::nl_socket_alloc());
        if (!socket) return fail_errno(ENOMEM, "netlink socket");
        TRY(netlink_result(::nl_connect(socket.get(), NETLINK_ROUTE), "netlink socket"));
        return work(socket.get());
    });
}

}  // namespace

Result<> try_bridge() {
    return in_network_namespace([](nl_sock* socket) {
        return netlink_result(::rtnl_link_bridge_add(socket, "check0"), "add a bridge");
    });
}

Result<> try_veth() {
    return in_network_namespace([](nl_sock* socket) {
        return netlink_result(::rtnl_link_veth_add(socket, "check0", "check1", ::getpid()),
                              "add a veth pair");
    });
}

}  // namespace memplate::check
