// SPDX-License-Identifier: GPL-2.0-only
/* Tells the level of a cgroup's memory whenever it has changed by a step. One of the ways to hear of
 * changes is loaded, the best that the kernel takes. */
#include "memory.bpf.h"

static __always_inline bool is_a_step(__u64 now, __u64 told)
{
	return now > told ? now - told >= settings.level_step : told - now >= settings.level_step;
}

static __always_inline void tell_level(struct memplate_counter *known, struct mem_cgroup *memory,
				       __u64 bytes)
{
	struct memplate_event *event;

	/* Of two processors that see the same step, one tells it. */
	known->told_bytes = bytes;
	event = new_event(MEMPLATE_LEVEL, known->cgroup, bpf_ktime_get_ns(), EVENT_WITHOUT_PROCESS);
	if (!event)
		return;
	event->bytes = bytes;
	event->peak = peak_of(memory);
	event->inactive_file = inactive_file_of(memory);
	tell(event);
}

static __always_inline struct mem_cgroup *memory_with(struct page_counter *counter)
{
	return (void *)counter - bpf_core_field_offset(struct mem_cgroup, memory);
}

/* A charge counts for all ancestors too. Other counters than those of memory are not in the map. */
#define MAX_DEPTH 16
static __always_inline int counter_changed(struct page_counter *counter)
{
	for (int depth = 0; depth < MAX_DEPTH; depth++) {
		__u64 address = (__u64)counter;
		struct memplate_counter *known = bpf_map_lookup_elem(&counters, &address);
		s64 pages;
		__u64 bytes;

		if (!known)
			break;
		pages = counter->usage.counter;
		bytes = pages > 0 ? pages_to_bytes(pages) : 0;
		if (is_a_step(bytes, known->told_bytes))
			tell_level(known, memory_with(counter), bytes);
		counter = counter->parent;
	}
	return 0;
}

SEC("?fexit/page_counter_try_charge")
int BPF_PROG(on_try_charge, struct page_counter *counter)
{
	return counter_changed(counter);
}

SEC("?fexit/page_counter_charge")
int BPF_PROG(on_charge, struct page_counter *counter)
{
	return counter_changed(counter);
}

SEC("?fexit/page_counter_uncharge")
int BPF_PROG(on_uncharge, struct page_counter *counter)
{
	return counter_changed(counter);
}

SEC("?tp_btf/mod_memcg_lruvec_state")
int BPF_PROG(on_lruvec_state, struct mem_cgroup *memory)
{
	return counter_changed(&memory->memory);
}

/* Raised before the charge, and before the release: user space looks again a little later. */
SEC("?tp_btf/rss_stat")
int BPF_PROG(on_rss_stat)
{
	struct mem_cgroup *memory = memory_of(cgroup_of(bpf_get_current_task_btf()));
	__u64 address = (__u64)&memory->memory;
	struct memplate_counter *known;
	__u64 bytes;

	if (!memory)
		return 0;
	known = bpf_map_lookup_elem(&counters, &address);
	if (!known)
		return 0;
	bytes = usage_of(memory);
	if (is_a_step(bytes, known->told_bytes))
		tell_level(known, memory, bytes);
	return 0;
}
