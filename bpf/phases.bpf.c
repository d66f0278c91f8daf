// SPDX-License-Identifier: GPL-2.0-only
/* Marks that memplate sets while it restores an instance: USDT probes in its own binary. */
#include "common.bpf.h"
#include <linux/ptrace.h>
/* One probe at one place. */
#define BPF_USDT_MAX_SPEC_CNT 16
#include <bpf/usdt.bpf.h>

SEC("usdt")
int BPF_USDT(on_phase, unsigned long cgroup, char *name)
{
	__u64 now = bpf_ktime_get_ns();
	struct memplate_event *event;
	__u64 id = cgroup;

	if (settings.only_below && !bpf_map_lookup_elem(&tracked, &id))
		return 0;
	event = new_event(MEMPLATE_RESTORE_PHASE, id, now, EVENT_WITH_PROCESS + MEMPLATE_PHASE);
	if (!event)
		return 0;
	tell_process(event, bpf_get_current_task_btf());
	event->text[0] = 0;
	bpf_probe_read_user_str(event->text, MEMPLATE_PHASE, name);
	tell(event);
	return 0;
}
