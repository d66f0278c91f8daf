/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs tell user space, and what user space tells them. Both include this. */
#ifndef MEMPLATE_BPF_EVENTS_H
#define MEMPLATE_BPF_EVENTS_H

#include <linux/types.h>

/* bpftool writes headers for C++ with a type of C in them. */
#if defined(__cplusplus) && !defined(_Bool)
#define _Bool bool
#endif

#define MEMPLATE_COMMAND 16 /* TASK_COMM_LEN */
#define MEMPLATE_FILE 256
#define MEMPLATE_PATH 1024
#define MEMPLATE_PHASE 32

/* In the order of trace::EventKind. */
enum memplate_kind {
	MEMPLATE_CGROUP_MADE,
	MEMPLATE_CGROUP_GONE,
	MEMPLATE_JOINED,
	MEMPLATE_FORKED,
	MEMPLATE_EXECUTED,
	MEMPLATE_LISTENING,
	MEMPLATE_ACCEPTED,
	MEMPLATE_ANSWERED,
	MEMPLATE_EXITED,
	MEMPLATE_LEVEL,
	MEMPLATE_RESTORE_PHASE,
};

/* A record of the ring buffer. Level events end before `command`, most others before `text`. */
struct memplate_event {
	__u64 time_ns;
	__u64 cgroup;
	__u64 value;
	__u64 bytes;
	__u64 peak;
	__u64 inactive_file;
	__u32 kind;
	__u32 pid;
	__u32 inner_pid;
	__u32 unused;
	char command[MEMPLATE_COMMAND];
	char text[];
};

/* One cgroup, of the iterator. Its page cache is its own only, without its descendants'. */
struct memplate_swept {
	__u64 time_ns;
	__u64 cgroup;
	__u64 parent;
	__u64 bytes;
	__u64 peak;
	__u64 inactive_file;
};

/* Where connections of a TCP port end up. */
struct memplate_port {
	__u32 network; /* inode of the namespace */
	__u32 port;
};

struct memplate_listener {
	__u64 cgroup;
	__u32 accepted;
	__u32 answered;
};

/* A memory counter of the kernel, by its address. */
struct memplate_counter {
	__u64 cgroup;
	__u64 told_bytes;
};

/* In the order of trace::FaultCount::Backing and Kind. */
enum memplate_backing { MEMPLATE_ANONYMOUS, MEMPLATE_OF_FILE, MEMPLATE_SHARED_MEMORY, MEMPLATE_OTHER };
enum memplate_fault_kind { MEMPLATE_MINOR, MEMPLATE_MAJOR, MEMPLATE_COPY_ON_WRITE };

struct memplate_fault {
	__u64 cgroup;
	__u32 device; /* major << 20 | minor */
	__u8 backing;
	__u8 kind;
	__u8 write;
	__u8 unused;
};

/* Of all objects together. */
struct memplate_shared {
	__u64 lost;
	__s64 unanswered; /* listeners that have not answered yet */
	__u32 pid_level;  /* of the tracing program's pid namespace: 0 for the first one */
	__u32 unused;
};

/* Constants of every object, set before it is loaded. */
struct memplate_settings {
	__u64 level_step;  /* bytes */
	__s32 hierarchy;   /* number of the memory controller's hierarchy; 0: the unified one */
	__u32 only_below;  /* only cgroups in `tracked` are told */
	__u32 lru_gen;     /* the multi-generational LRU is on */
	__u32 nodes;       /* of memory */
	__u32 tell_start;  /* processes, not memory alone */
};

#endif
