// SPDX-License-Identifier: GPL-2.0-only
/* Looks at every cgroup of a subtree: makes those that exist known to the other programs, and tells
 * their memory. The text output of such an iterator is cut after 32 KiB: hence a ring buffer. */
#include "memory.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} swept SEC(".maps");

SEC("iter/cgroup")
int sweep_cgroup(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *group = ctx->cgroup;
	struct memplate_swept *record;
	struct mem_cgroup *memory;
	__u64 id;

	/* The end of the walk. It is made by the tracing program. */
	if (!group) {
		struct memplate_shared *state = shared_state();

		if (state)
			state->pid_level = bpf_get_current_task_btf()->thread_pid->level;
		return 0;
	}
	id = group->kn->id;
	if (settings.only_below) {
		__u8 one = 1;

		bpf_map_update_elem(&tracked, &id, &one, BPF_ANY);
	}
	memory = memory_of(group);
	if (!memory)
		return 0;
	if (group->level > 0 || settings.only_below)
		know_memory(group, id);
	record = bpf_ringbuf_reserve(&swept, sizeof(*record), 0);
	if (!record) {
		struct memplate_shared *state = shared_state();

		if (state)
			__sync_fetch_and_add(&state->lost, 1);
		return 0;
	}
	record->cgroup = id;
	record->parent = group->level > 0 ? group->self.parent->cgroup->kn->id : 0;
	record->time_ns = bpf_ktime_get_ns();
	record->bytes = usage_of(memory);
	record->peak = peak_of(memory);
	record->inactive_file = inactive_file_of(memory);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}
