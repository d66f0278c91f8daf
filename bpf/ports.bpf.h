/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MEMPLATE_BPF_PORTS_H
#define MEMPLATE_BPF_PORTS_H

#include "common.bpf.h"

#define IPPROTO_TCP 6

/* The local one: a connection has that of the socket that listens. */
static __always_inline struct memplate_port port_of(const struct sock *socket)
{
	struct memplate_port port = {
		.network = socket->__sk_common.skc_net.net->ns.inum,
		.port = socket->__sk_common.skc_num,
	};

	return port;
}

static __always_inline void tell_port(enum memplate_kind kind, __u64 cgroup, __u64 now, __u32 port,
				      struct task_struct *task)
{
	struct memplate_event *event = new_event(kind, cgroup, now, EVENT_WITH_PROCESS);

	if (!event)
		return;
	event->value = port;
	if (task)
		tell_process(event, task);
	else
		event->command[0] = 0;
	tell(event);
}

#endif
