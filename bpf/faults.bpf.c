// SPDX-License-Identifier: GPL-2.0-only
/* Counts page faults by cgroup, kind and what backs the memory. Either the functions are hooked, or,
 * dearer, every page fault is a software event of perf. bpf_overflow_handler() runs no program while
 * somebody's bpf() call on a map is preempted on that processor (bpf_prog_active): such faults are not
 * counted. That explains 4 of 512 that were missed once; it was not provoked. */
#include "common.bpf.h"
#include <linux/bpf_perf_event.h>

#define VM_FAULT_MAJOR 0x4
#define VM_FAULT_RETRY 0x400
#define VM_FAULT_ERROR (0x1 | 0x2 | 0x10 | 0x20 | 0x40 | 0x800)
#define FAULT_FLAG_WRITE 0x1
#define FAULT_FLAG_TRIED 0x20

#define PTE_PAGE_FRAME 0x0000fffffffff000UL

#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6

/* Of the processor, as it reports page faults. */
#define ERROR_PRESENT 1
#define ERROR_WRITE 2

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct memplate_fault);
	__type(value, __u64);
} faults SEC(".maps");

static __always_inline void count(struct memplate_fault *fault)
{
	__u64 *number = bpf_map_lookup_elem(&faults, fault);
	__u64 one = 1;

	if (number)
		*number += 1;
	else if (bpf_map_update_elem(&faults, fault, &one, BPF_ANY)) {
		struct memplate_shared *state = shared_state();

		if (state)
			__sync_fetch_and_add(&state->lost, 1);
	}
}

static __always_inline void describe(struct memplate_fault *fault, struct vm_area_struct *area)
{
	struct super_block *system;
	struct file *file = area->vm_file;

	if (!file) {
		fault->backing = MEMPLATE_ANONYMOUS;
		return;
	}
	system = file->f_inode->i_sb;
	fault->device = system->s_dev;
	if (system->s_magic == TMPFS_MAGIC)
		fault->backing = MEMPLATE_SHARED_MEMORY;
	else if (system->s_magic == HUGETLBFS_MAGIC)
		fault->backing = MEMPLATE_OTHER;
	else
		fault->backing = MEMPLATE_OF_FILE;
}

/* False: the cgroup is not told. */
static __always_inline bool of_current_task(struct memplate_fault *fault)
{
	struct cgroup *group = cgroup_of(bpf_get_current_task_btf());

	fault->cgroup = group->kn->id;
	return is_told(group, fault->cgroup);
}

SEC("?fexit/handle_mm_fault")
int BPF_PROG(on_fault, struct vm_area_struct *area, unsigned long address, unsigned int flags,
	     struct pt_regs *registers, unsigned int result)
{
	struct memplate_fault fault = {};

	if (result & (VM_FAULT_RETRY | VM_FAULT_ERROR) || !of_current_task(&fault))
		return 0;
	fault.kind = result & VM_FAULT_MAJOR || flags & FAULT_FLAG_TRIED ? MEMPLATE_MAJOR :
									   MEMPLATE_MINOR;
	fault.write = flags & FAULT_FLAG_WRITE;
	describe(&fault, area);
	count(&fault);
	return 0;
}

/* Inside the former: user space takes these off the minor ones. A page that nobody else has any more
 * is made writable, not copied: then its entry names the same page as before. */
SEC("?fexit/do_wp_page")
int BPF_PROG(on_protected_write, struct vm_fault *what, unsigned int result)
{
	struct memplate_fault fault = { .kind = MEMPLATE_COPY_ON_WRITE, .write = 1 };
	unsigned long before = 0, after = 0;
	pte_t *entry = what->pte;

	if (result & (VM_FAULT_RETRY | VM_FAULT_ERROR | VM_FAULT_MAJOR))
		return 0;
	bpf_core_read(&before, sizeof(before), &what->orig_pte.pte);
	bpf_probe_read_kernel(&after, sizeof(after), entry);
	if (((before ^ after) & PTE_PAGE_FRAME) == 0 || !of_current_task(&fault))
		return 0;
	describe(&fault, what->vma);
	count(&fault);
	return 0;
}

/* By thread: the processor's error code of the page fault that it is at. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} entered SEC(".maps");

SEC("?tp_btf/page_fault_user")
int BPF_PROG(on_user_fault, unsigned long address, struct pt_regs *registers, unsigned long error)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct memplate_fault fault = {};
	__u64 code = error;

	if (of_current_task(&fault))
		bpf_map_update_elem(&entered, &thread, &code, BPF_ANY);
	return 0;
}

static long on_area(struct task_struct *task, struct vm_area_struct *area, void *data)
{
	describe(data, area);
	return 0;
}

static __always_inline int on_event(struct bpf_perf_event_data *event, enum memplate_fault_kind kind)
{
	struct memplate_fault fault = { .kind = kind, .backing = MEMPLATE_OTHER };
	__u64 thread = bpf_get_current_pid_tgid();
	__u64 *error;

	if (!of_current_task(&fault))
		return 0;
	error = bpf_map_lookup_elem(&entered, &thread);
	if (error) {
		fault.write = (*error & ERROR_WRITE) != 0;
		if (kind == MEMPLATE_MINOR && fault.write && *error & ERROR_PRESENT)
			fault.kind = MEMPLATE_COPY_ON_WRITE;
		bpf_map_delete_elem(&entered, &thread);
	}
	bpf_find_vma(bpf_get_current_task_btf(), event->addr, on_area, &fault, 0);
	count(&fault);
	return 0;
}

SEC("?perf_event")
int on_minor_event(struct bpf_perf_event_data *event)
{
	return on_event(event, MEMPLATE_MINOR);
}

SEC("?perf_event")
int on_major_event(struct bpf_perf_event_data *event)
{
	return on_event(event, MEMPLATE_MAJOR);
}
