/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps that all objects share, and how events are told. */
#ifndef MEMPLATE_BPF_COMMON_H
#define MEMPLATE_BPF_COMMON_H

#include "kernel_types.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "events.h"

#define PAGE_BYTES 4096

char LICENSE[] SEC("license") = "GPL";

const volatile struct memplate_settings settings = {};

/* User space looks into it every few milliseconds: waking it up for each event would cost 25 times
 * as much. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct memplate_shared);
} shared SEC(".maps");

/* Where only_below is set: the cgroups that are told. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u8);
} tracked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct memplate_counter);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct memplate_port);
	__type(value, struct memplate_listener);
} listeners SEC(".maps");

static __always_inline struct memplate_shared *shared_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&shared, &zero);
}

#define memory_id() bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)

/* Of the hierarchy that the memory controller is on. */
static __always_inline struct cgroup *cgroup_of(struct task_struct *task)
{
	if (settings.hierarchy == 0)
		return task->cgroups->dfl_cgrp;
	return task->cgroups->subsys[memory_id()]->cgroup;
}

static __always_inline bool is_ours(struct cgroup *group)
{
	return group->root->hierarchy_id == settings.hierarchy;
}

/* Processes outside all containers are in the root cgroup: it is told only where asked for. */
static __always_inline bool is_told(struct cgroup *group, __u64 id)
{
	if (settings.only_below)
		return bpf_map_lookup_elem(&tracked, &id) != NULL;
	return group->level > 0;
}

/* NULL as long as the controller is off for this cgroup. */
static __always_inline struct mem_cgroup *memory_of(struct cgroup *group)
{
	return (struct mem_cgroup *)group->subsys[memory_id()];
}

static __always_inline __u64 pages_to_bytes(__u64 pages)
{
	return pages * PAGE_BYTES;
}

static __always_inline __u64 usage_of(struct mem_cgroup *memory)
{
	s64 pages = 0;

	bpf_core_read(&pages, sizeof(pages), &memory->memory.usage.counter);
	return pages > 0 ? pages_to_bytes(pages) : 0;
}

static __always_inline __u64 peak_of(struct mem_cgroup *memory)
{
	unsigned long pages = 0;

	bpf_core_read(&pages, sizeof(pages), &memory->memory.watermark);
	return pages_to_bytes(pages);
}

/* In a pid namespace: an address that the verifier need not know, as not all take a typed one. */
static __always_inline __u32 number_at(struct task_struct *leader, __u32 level)
{
	__u32 number = 0;
	void *pid = NULL;

	bpf_core_read(&pid, sizeof(pid), &leader->thread_pid);
	bpf_probe_read_kernel(&number, sizeof(number),
			      pid + bpf_core_field_offset(struct pid, numbers) +
				      level * bpf_core_type_size(struct upid) +
				      bpf_core_field_offset(struct upid, nr));
	return number;
}

/* The process that the thread belongs to: its number for the tracing program and for itself. */
static __always_inline void tell_process(struct memplate_event *event, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct memplate_shared *state = shared_state();
	__u32 ours = state ? state->pid_level : 0;
	__u32 level = leader->thread_pid->level;

	/* The number in the first namespace is also in the task itself. */
	event->pid = ours == 0 ? task->tgid : level >= ours ? number_at(leader, ours) : 0;
	event->inner_pid = level == ours ? event->pid : number_at(leader, level);
	bpf_core_read(event->command, sizeof(event->command), &task->comm);
}

/* `size` bytes: what the kind needs of the record. */
static __always_inline struct memplate_event *new_event(enum memplate_kind kind, __u64 cgroup,
							 __u64 time_ns, __u64 size)
{
	struct memplate_event *event = bpf_ringbuf_reserve(&events, size, 0);

	if (!event) {
		struct memplate_shared *state = shared_state();

		if (state)
			__sync_fetch_and_add(&state->lost, 1);
		return NULL;
	}
	event->time_ns = time_ns;
	event->cgroup = cgroup;
	event->value = 0;
	event->bytes = 0;
	event->peak = 0;
	event->inactive_file = 0;
	event->kind = kind;
	event->pid = 0;
	event->inner_pid = 0;
	return event;
}

#define EVENT_WITHOUT_PROCESS offsetof(struct memplate_event, command)
#define EVENT_WITH_PROCESS offsetof(struct memplate_event, text)

static __always_inline void tell(struct memplate_event *event)
{
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* Makes a cgroup's memory known to the programs that see counters only. */
static __always_inline void know_memory(struct cgroup *group, __u64 id)
{
	struct mem_cgroup *memory = memory_of(group);
	struct memplate_counter counter = { .cgroup = id };
	__u64 address = (__u64)&memory->memory;

	if (memory && !bpf_map_lookup_elem(&counters, &address))
		bpf_map_update_elem(&counters, &address, &counter, BPF_NOEXIST);
}

#endif
