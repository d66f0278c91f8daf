/* SPDX-License-Identifier: GPL-2.0-only */
/* What gpu.bpf.c keeps, and how it tells. */
#ifndef MEMPLATE_GPU_BPF_H
#define MEMPLATE_GPU_BPF_H

#include "kernel_types.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <linux/ptrace.h>
#include <bpf/bpf_tracing.h>

#include "gpu_events.h"

/* libbpf 1.1 has none. */
#ifndef PT_REGS_PARM6_SYSCALL
#ifdef __TARGET_ARCH_arm64
#define PT_REGS_PARM6_SYSCALL(x) (((struct user_pt_regs *)(x))->regs[5])
#else
#define PT_REGS_PARM6_SYSCALL(x) ((x)->r9)
#endif
#endif

#define SIGSTOP 19
#define MOST_NAMESPACES 32 /* MAX_PID_NS_LEVEL of the kernel */

char LICENSE[] SEC("license") = "GPL";

const volatile struct memplate_gpu_settings settings = {};

/* Events that found no room. */
__u64 lost = 0;
/* How deep the pid namespace of who traces is. */
__u32 pid_level = 0;
/* The driver's unnamed entry points are not asked about any more. */
__u32 no_more_entry_points = 0;
/* Of the program, in the pid namespace of who traces; set once the programs are attached. */
__u32 first_process = ~0U;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 32 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct memplate_gpu_process);
} processes SEC(".maps");

/* Calls of the driver that have not returned. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct memplate_gpu_key);
	__type(value, struct memplate_gpu_open_call);
} open_calls SEC(".maps");

struct system_call {
	__u64 begin_ns;
	long id;
};

/* By thread: the one that it is in. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct system_call);
} system_calls SEC(".maps");

/* By thread: since when it waits for a disk. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} waits SEC(".maps");

/* Files that the program opened: process << 32 | descriptor. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u8);
} files SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct memplate_gpu_driver);
	__type(value, __u64);
} drivers SEC(".maps");

/* Entry points of the driver that have probes, as addresses in its file. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u8);
} probed SEC(".maps");

static __always_inline __u32 current_process(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

static __always_inline __u32 current_thread(void)
{
	return (__u32)bpf_get_current_pid_tgid();
}

static __always_inline struct memplate_gpu_process *find_process(__u32 number)
{
	return bpf_map_lookup_elem(&processes, &number);
}

static __always_inline __u32 read_number(struct task_struct *task, __u32 level,
					 struct pid_namespace **space)
{
	struct task_struct *leader = task->group_leader;
	__u32 number = 0;
	void *pid = NULL;

	bpf_core_read(&pid, sizeof(pid), &leader->thread_pid);
	pid += bpf_core_field_offset(struct pid, numbers) +
	       level * bpf_core_type_size(struct upid);
	bpf_probe_read_kernel(&number, sizeof(number), pid + bpf_core_field_offset(struct upid, nr));
	bpf_probe_read_kernel(space, sizeof(*space), pid + bpf_core_field_offset(struct upid, ns));
	return number;
}

/* Its number for who traces; 0: it cannot be seen from there. */
static __always_inline __u32 number_of(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct pid_namespace *space = NULL;

	if (leader->thread_pid->level < pid_level)
		return 0;
	return read_number(task, pid_level, &space);
}

/* Whether this is the program's first process; remembers how deep who traces is. */
static __always_inline bool is_first(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	__u32 deepest = leader->thread_pid->level;

	/* Linux 6.1 takes this loop only without one. */
#pragma clang loop unroll(full)
	for (__u32 level = 0; level < MOST_NAMESPACES; level++) {
		struct pid_namespace *space = NULL;
		__u32 inode = 0;

		if (level > deepest)
			break;
		if (read_number(task, level, &space) != first_process || !space)
			continue;
		bpf_core_read(&inode, sizeof(inode), &space->ns.inum);
		if (inode != settings.pid_namespace)
			continue;
		pid_level = level;
		return true;
	}
	return false;
}

static __always_inline void count_lost(void)
{
	__sync_fetch_and_add(&lost, 1);
}

static __always_inline struct memplate_gpu_event *new_event(enum memplate_gpu_kind kind,
							     __u32 pid, __u64 size)
{
	struct memplate_gpu_event *event = bpf_ringbuf_reserve(&events, size, 0);

	if (!event) {
		count_lost();
		return NULL;
	}
	event->begin_ns = event->end_ns = bpf_ktime_get_ns();
	event->kind = kind;
	event->pid = pid;
	event->thread = current_thread();
	event->result = 0;
	event->call = 0;
	event->unused = 0;
	event->arguments[0] = event->arguments[1] = event->arguments[2] = 0;
	return event;
}

#define EVENT_WITH_TEXT (sizeof(struct memplate_gpu_event) + MEMPLATE_GPU_TEXT)

static __always_inline char *text_of(struct memplate_gpu_event *event)
{
	return (char *)(event + 1);
}

static __always_inline void tell(struct memplate_gpu_event *event)
{
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* Stops the process; who traces sets probes and lets it go on. */
static __always_inline void stop_and_tell(struct memplate_gpu_event *event)
{
	bpf_send_signal(SIGSTOP);
	bpf_ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
}

#endif
