// SPDX-License-Identifier: GPL-2.0-only
/* The first bytes that a server sends. Only one of the two is loaded; both are next to free as long as
 * every server has answered. */
#include "ports.bpf.h"

static __always_inline int sent(struct sock *socket, int bytes)
{
	__u64 now = bpf_ktime_get_ns();
	struct memplate_shared *state = shared_state();
	struct memplate_listener *listener;
	struct memplate_port port;

	if (!state || state->unanswered <= 0 || bytes <= 0 || socket->sk_protocol != IPPROTO_TCP)
		return 0;
	port = port_of(socket);
	listener = bpf_map_lookup_elem(&listeners, &port);
	if (!listener || listener->answered || __sync_lock_test_and_set(&listener->answered, 1))
		return 0;
	__sync_fetch_and_add(&state->unanswered, -1);
	tell_port(MEMPLATE_ANSWERED, listener->cgroup, now, port.port, bpf_get_current_task_btf());
	return 0;
}

/* From Linux 6.3 on. */
SEC("?tp_btf/sock_send_length")
int BPF_PROG(on_send_length, struct sock *socket, int bytes)
{
	return sent(socket, bytes);
}

SEC("?fexit/tcp_sendmsg")
int BPF_PROG(on_tcp_sendmsg, struct sock *socket, void *message, unsigned long size, int bytes)
{
	return sent(socket, bytes);
}
