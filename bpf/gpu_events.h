/* SPDX-License-Identifier: GPL-2.0-only */
/* What is told of a program that uses a GPU: by the probes of gpu.bpf.c, and by the library that is
 * injected where there is no BPF. */
#ifndef MEMPLATE_GPU_EVENTS_H
#define MEMPLATE_GPU_EVENTS_H

#include <linux/types.h>

#define MEMPLATE_GPU_TEXT 256

/* In the order of gpu::ProgramEvent::Kind. */
enum memplate_gpu_kind {
	MEMPLATE_GPU_NONE,
	MEMPLATE_GPU_CALL,	  /* of the driver: `call`, `result`, `arguments` */
	MEMPLATE_GPU_OPENED,	  /* a file: text, result: its descriptor */
	MEMPLATE_GPU_READ,	  /* argument 0: descriptor, 1: bytes */
	MEMPLATE_GPU_MAPPED,	  /* argument 0: descriptor, 1: bytes */
	MEMPLATE_GPU_DISK,	  /* the thread waited for a disk */
	MEMPLATE_GPU_FORKED,	  /* argument 0: the child */
	MEMPLATE_GPU_EXECUTED,	  /* text: the file */
	MEMPLATE_GPU_LINKED,	  /* the dynamic linker has mapped what the program needs */
	MEMPLATE_GPU_EXITED,
	MEMPLATE_GPU_DRIVER,	  /* stopped: it has mapped the driver; argument 0: where, 1: its
				 * number in the first pid namespace */
	MEMPLATE_GPU_ENTRY_POINT, /* stopped: the driver has named one without probes; argument 0:
				   * its address; text: its name */
};

/* One record; those with text go on for MEMPLATE_GPU_TEXT bytes. */
struct memplate_gpu_event {
	__u64 begin_ns;
	__u64 end_ns;
	__u32 kind;
	__u32 pid;
	__u32 thread;
	__s32 result;
	__u32 call; /* index of its name */
	__u32 unused;
	__u64 arguments[3];
};

/* Set before the programs are loaded. */
struct memplate_gpu_settings {
	__u32 pid_namespace; /* of who traces */
};

/* A process of the program, by its number in the first pid namespace. */
struct memplate_gpu_process {
	__u32 pid;	/* in the pid namespace of who traces */
	__u32 linking;	/* executed, and not linked yet */
	__u64 driver;	/* where address 0 of the driver's file is mapped */
};

/* A driver's file that has probes already: no process is stopped that maps it. Its value is what
 * the place of its first byte lacks to be that of its address 0. */
struct memplate_gpu_driver {
	__u64 device; /* as the kernel numbers it: major << 20 | minor */
	__u64 inode;
};

/* A call that has not returned, by thread and call. */
struct memplate_gpu_key {
	__u64 thread;
	__u64 call;
};
struct memplate_gpu_open_call {
	__u64 begin_ns;
	__u32 pid;
	__u32 unused;
	__u64 arguments[3];
};

#endif
