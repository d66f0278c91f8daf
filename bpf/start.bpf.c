// SPDX-License-Identifier: GPL-2.0-only
/* Lives of cgroups and of processes in them; TCP ports they listen on. Tracepoints only: they load
 * everywhere. */
#include "ports.bpf.h"

#define TCP_ESTABLISHED 1
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define SIGNAL_GROUP_EXIT 4

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(on_cgroup_mkdir, struct cgroup *group, const char *path)
{
	__u64 now = bpf_ktime_get_ns();
	struct memplate_event *event;
	__u64 id;

	if (!is_ours(group))
		return 0;
	id = group->kn->id;
	if (settings.only_below) {
		__u64 parent = group->self.parent->cgroup->kn->id;
		__u8 one = 1;

		if (!bpf_map_lookup_elem(&tracked, &parent))
			return 0;
		bpf_map_update_elem(&tracked, &id, &one, BPF_ANY);
	}
	know_memory(group, id);
	event = new_event(MEMPLATE_CGROUP_MADE, id, now, EVENT_WITH_PROCESS + MEMPLATE_PATH);
	if (!event)
		return 0;
	tell_process(event, bpf_get_current_task_btf());
	event->text[0] = 0;
	bpf_probe_read_kernel_str(event->text, MEMPLATE_PATH, path);
	tell(event);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(on_cgroup_rmdir, struct cgroup *group)
{
	__u64 now = bpf_ktime_get_ns();
	struct memplate_event *event;
	struct mem_cgroup *memory;
	__u64 id;

	if (!is_ours(group))
		return 0;
	id = group->kn->id;
	if (settings.only_below && bpf_map_delete_elem(&tracked, &id))
		return 0;
	memory = memory_of(group);
	if (memory) {
		__u64 address = (__u64)&memory->memory;

		/* Another cgroup's memory may get this address. */
		bpf_map_delete_elem(&counters, &address);
	}
	event = new_event(MEMPLATE_CGROUP_GONE, id, now, EVENT_WITHOUT_PROCESS);
	if (!event)
		return 0;
	if (memory)
		event->peak = peak_of(memory);
	tell(event);
	return 0;
}

/* Not raised by clone3() into a cgroup: the birth there is all there is. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_cgroup_attach_task, struct cgroup *group, const char *path, struct task_struct *task)
{
	__u64 now = bpf_ktime_get_ns();
	struct memplate_event *event;
	__u64 id;

	if (!is_ours(group))
		return 0;
	id = group->kn->id;
	if (!is_told(group, id))
		return 0;
	know_memory(group, id);
	if (!settings.tell_start)
		return 0;
	event = new_event(MEMPLATE_JOINED, id, now, EVENT_WITH_PROCESS);
	if (!event)
		return 0;
	tell_process(event, task);
	tell(event);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	__u64 now = bpf_ktime_get_ns();
	struct memplate_event *event;
	struct cgroup *group;
	__u64 id;

	if (child->pid != child->tgid)
		return 0;
	group = cgroup_of(child);
	id = group->kn->id;
	if (!is_told(group, id))
		return 0;
	know_memory(group, id);
	if (!settings.tell_start)
		return 0;
	event = new_event(MEMPLATE_FORKED, id, now, EVENT_WITH_PROCESS);
	if (!event)
		return 0;
	tell_process(event, child);
	tell(event);
	return 0;
}

SEC("?tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
	__u64 now = bpf_ktime_get_ns();
	struct cgroup *group = cgroup_of(task);
	struct memplate_event *event;
	struct mem_cgroup *memory;
	__u64 id = group->kn->id;

	if (!is_told(group, id))
		return 0;
	event = new_event(MEMPLATE_EXECUTED, id, now, EVENT_WITH_PROCESS + MEMPLATE_FILE);
	if (!event)
		return 0;
	tell_process(event, task);
	event->text[0] = 0;
	bpf_probe_read_kernel_str(event->text, MEMPLATE_FILE, program->filename);
	/* What is above this later was reached by the program itself. */
	memory = memory_of(group);
	if (memory)
		event->peak = peak_of(memory);
	tell(event);
	return 0;
}

/* Raised for every thread. Two that end at once may both find themselves the last; user space tells
 * one of them. */
SEC("?tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	__u64 now = bpf_ktime_get_ns();
	struct memplate_event *event;
	struct mem_cgroup *memory;
	struct cgroup *group;
	__u64 id;

	if (task->signal->live.counter != 0)
		return 0;
	group = cgroup_of(task);
	id = group->kn->id;
	if (!is_told(group, id))
		return 0;
	event = new_event(MEMPLATE_EXITED, id, now, EVENT_WITH_PROCESS);
	if (!event)
		return 0;
	tell_process(event, task);
	event->value = task->signal->flags & SIGNAL_GROUP_EXIT ? task->signal->group_exit_code :
								 task->group_leader->exit_code;
	memory = memory_of(group);
	if (memory)
		event->peak = peak_of(memory);
	tell(event);
	return 0;
}

static __always_inline void begin_listening(struct memplate_port *port, __u64 now)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cgroup *group = cgroup_of(task);
	struct memplate_listener listener = { .cgroup = group->kn->id };
	struct memplate_shared *state;

	if (!is_told(group, listener.cgroup) ||
	    bpf_map_update_elem(&listeners, port, &listener, BPF_NOEXIST))
		return;
	state = shared_state();
	if (state)
		__sync_fetch_and_add(&state->unanswered, 1);
	tell_port(MEMPLATE_LISTENING, listener.cgroup, now, port->port, task);
}

static __always_inline void end_listening(struct memplate_port *port)
{
	struct memplate_listener *listener = bpf_map_lookup_elem(&listeners, port);
	struct memplate_shared *state = shared_state();

	if (!listener)
		return;
	if (state && !listener->answered)
		__sync_fetch_and_add(&state->unanswered, -1);
	bpf_map_delete_elem(&listeners, port);
}

/* The connection is there: the program may fetch it with accept() now. Any task may be current. */
static __always_inline void begin_connection(struct memplate_port *port, __u64 now)
{
	struct memplate_listener *listener;
	struct memplate_shared *state = shared_state();

	if (!state || state->unanswered <= 0)
		return;
	listener = bpf_map_lookup_elem(&listeners, port);
	if (!listener || listener->accepted || __sync_lock_test_and_set(&listener->accepted, 1))
		return;
	tell_port(MEMPLATE_ACCEPTED, listener->cgroup, now, port->port, NULL);
}

SEC("?tp_btf/inet_sock_set_state")
int BPF_PROG(on_socket_state, const struct sock *socket, int old_state, int new_state)
{
	__u64 now = bpf_ktime_get_ns();
	struct memplate_port port;

	if (new_state != TCP_LISTEN && old_state != TCP_LISTEN && new_state != TCP_ESTABLISHED)
		return 0;
	if (socket->sk_protocol != IPPROTO_TCP)
		return 0;
	port = port_of(socket);
	if (new_state == TCP_LISTEN)
		begin_listening(&port, now);
	else if (new_state == TCP_ESTABLISHED)
		begin_connection(&port, now);
	else if (new_state == TCP_CLOSE)
		end_listening(&port);
	return 0;
}
