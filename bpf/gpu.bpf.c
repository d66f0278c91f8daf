// SPDX-License-Identifier: GPL-2.0-only
/* A program that uses a GPU: its calls of the driver, and what its processes do between them. */
#include "gpu.bpf.h"
#include <asm/unistd.h>

#define PROT_EXEC 4
/* Shorter waits for a disk are not told. */
#define SHORT_WAIT_NS 20000

/* The processes */

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct memplate_gpu_process *process, made = {};
	struct memplate_gpu_event *event;
	__u32 number = child->tgid;

	if (child->pid != child->tgid)
		return 0;
	process = find_process(parent->tgid);
	if (!process)
		return 0;
	made.pid = number_of(child);
	made.driver = process->driver;
	bpf_map_update_elem(&processes, &number, &made, BPF_ANY);
	event = new_event(MEMPLATE_GPU_FORKED, process->pid, sizeof(*event));
	if (!event)
		return 0;
	event->arguments[0] = made.pid;
	tell(event);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
	struct memplate_gpu_process *process = find_process(task->tgid);
	struct memplate_gpu_event *event;

	if (!process) {
		struct memplate_gpu_process first = { .pid = first_process };
		__u32 number = task->tgid;

		if (!is_first(task))
			return 0;
		bpf_map_update_elem(&processes, &number, &first, BPF_ANY);
		process = find_process(number);
		if (!process)
			return 0;
	}
	process->linking = 1;
	process->driver = 0;
	event = new_event(MEMPLATE_GPU_EXECUTED, process->pid, EVENT_WITH_TEXT);
	if (!event)
		return 0;
	text_of(event)[0] = 0;
	bpf_probe_read_kernel_str(text_of(event), MEMPLATE_GPU_TEXT, program->filename);
	tell(event);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct memplate_gpu_process *process;
	struct memplate_gpu_event *event;
	__u32 number = task->tgid;
	__u32 thread = task->pid;

	process = find_process(number);
	if (!process)
		return 0;
	bpf_map_delete_elem(&system_calls, &thread);
	bpf_map_delete_elem(&waits, &thread);
	if (task->signal->live.counter != 0)
		return 0;
	event = new_event(MEMPLATE_GPU_EXITED, process->pid, sizeof(*event));
	if (event)
		tell(event);
	bpf_map_delete_elem(&processes, &number);
	return 0;
}

/* Their files */

static __always_inline bool is_watched(long id)
{
	switch (id) {
#ifdef __NR_open
	case __NR_open:
#endif
	case __NR_openat:
	case __NR_openat2:
	case __NR_read:
	case __NR_pread64:
	case __NR_mmap:
	case __NR_munmap:
	case __NR_close:
		return true;
	}
	return false;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_system_call_begun, struct pt_regs *regs, long id)
{
	struct system_call call = { .id = id };
	__u32 thread = current_thread();

	if (!is_watched(id) || !find_process(current_process()))
		return 0;
	call.begin_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&system_calls, &thread, &call, BPF_ANY);
	return 0;
}

static __always_inline __u64 file_key(__u64 descriptor)
{
	return (__u64)current_process() << 32 | (__u32)descriptor;
}

static __always_inline void on_opened(struct memplate_gpu_process *process, __u64 begin,
				      const char *path, long descriptor)
{
	struct memplate_gpu_event *event;
	__u64 key = file_key(descriptor);
	__u8 one = 1;

	if (descriptor < 0)
		return;
	bpf_map_update_elem(&files, &key, &one, BPF_ANY);
	event = new_event(MEMPLATE_GPU_OPENED, process->pid, EVENT_WITH_TEXT);
	if (!event)
		return;
	event->begin_ns = begin;
	event->result = descriptor;
	text_of(event)[0] = 0;
	bpf_probe_read_user_str(text_of(event), MEMPLATE_GPU_TEXT, path);
	tell(event);
}

static __always_inline void on_data(enum memplate_gpu_kind kind,
				    struct memplate_gpu_process *process, __u64 begin,
				    __u64 descriptor, __u64 bytes)
{
	struct memplate_gpu_event *event;
	__u64 key = file_key(descriptor);

	if (!bpf_map_lookup_elem(&files, &key))
		return;
	event = new_event(kind, process->pid, sizeof(*event));
	if (!event)
		return;
	event->begin_ns = begin;
	event->arguments[0] = descriptor;
	event->arguments[1] = bytes;
	tell(event);
}

/* The name of the file itself, not of a link to it: libcuda.so.580.65.06. */
static __always_inline struct file *driver_file(__u32 descriptor)
{
	struct task_struct *task = bpf_get_current_task_btf();
	static const char wanted[] = "libcuda.so.";
	char name[sizeof(wanted)] = {};
	struct file **table = NULL, *file = NULL;
	const unsigned char *start = NULL;
	struct dentry *entry = NULL;
	struct fdtable *files_of;

	files_of = BPF_CORE_READ(task, files, fdt);
	if (!files_of || descriptor >= BPF_CORE_READ(files_of, max_fds))
		return NULL;
	bpf_core_read(&table, sizeof(table), &files_of->fd);
	bpf_probe_read_kernel(&file, sizeof(file), table + descriptor);
	if (!file)
		return false;
	bpf_core_read(&entry, sizeof(entry), &file->f_path.dentry);
	bpf_core_read(&start, sizeof(start), &entry->d_name.name);
	bpf_probe_read_kernel_str(name, sizeof(name), start);
	for (int i = 0; i < (int)sizeof(wanted) - 1; i++)
		if (name[i] != wanted[i])
			return NULL;
	return file;
}

static __always_inline void on_mapped(struct memplate_gpu_process *process, __u64 begin,
				      struct pt_regs *regs, long address)
{
	int descriptor = PT_REGS_PARM5_SYSCALL(regs);
	struct memplate_gpu_driver driver = {};
	struct memplate_gpu_event *event;
	struct file *file;
	__u64 *shift;

	if (address < 0 && address > -4096)
		return;
	if (descriptor < 0)
		return;
	on_data(MEMPLATE_GPU_MAPPED, process, begin, descriptor, PT_REGS_PARM2_SYSCALL(regs));
	if (!(PT_REGS_PARM3_SYSCALL(regs) & PROT_EXEC))
		return;
	file = driver_file(descriptor);
	if (!file)
		return;
	driver.device = BPF_CORE_READ(file, f_inode, i_sb, s_dev);
	driver.inode = BPF_CORE_READ(file, f_inode, i_ino);
	shift = bpf_map_lookup_elem(&drivers, &driver);
	if (shift) {
		process->driver = address - PT_REGS_PARM6_SYSCALL(regs) + *shift;
		return;
	}
	event = new_event(MEMPLATE_GPU_DRIVER, process->pid, sizeof(*event));
	if (!event)
		return;
	event->arguments[0] = address;
	event->arguments[1] = current_process();
	stop_and_tell(event);
}

static __always_inline void on_unmapped(struct memplate_gpu_process *process)
{
	struct memplate_gpu_event *event;

	/* The first thing that the dynamic linker gives back is its list of libraries. */
	if (!process->linking)
		return;
	process->linking = 0;
	event = new_event(MEMPLATE_GPU_LINKED, process->pid, sizeof(*event));
	if (event)
		tell(event);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_system_call_done, struct pt_regs *regs, long result)
{
	__u32 thread = current_thread();
	struct memplate_gpu_process *process = find_process(current_process());
	struct system_call *call;
	__u64 begin, key;
	long id;

	if (!process)
		return 0;
	call = bpf_map_lookup_elem(&system_calls, &thread);
	if (!call)
		return 0;
	begin = call->begin_ns;
	id = call->id;
	bpf_map_delete_elem(&system_calls, &thread);
	switch (id) {
#ifdef __NR_open
	case __NR_open:
		on_opened(process, begin, (const char *)PT_REGS_PARM1_SYSCALL(regs), result);
		break;
#endif
	case __NR_openat:
	case __NR_openat2:
		on_opened(process, begin, (const char *)PT_REGS_PARM2_SYSCALL(regs), result);
		break;
	case __NR_read:
	case __NR_pread64:
		if (result > 0)
			on_data(MEMPLATE_GPU_READ, process, begin, PT_REGS_PARM1_SYSCALL(regs), result);
		break;
	case __NR_mmap:
		on_mapped(process, begin, regs, result);
		break;
	case __NR_munmap:
		on_unmapped(process);
		break;
	case __NR_close:
		key = file_key(PT_REGS_PARM1_SYSCALL(regs));
		bpf_map_delete_elem(&files, &key);
		break;
	}
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempted, struct task_struct *before, struct task_struct *after)
{
	__u32 gone = before->pid, back = after->pid;
	struct memplate_gpu_process *process;
	struct memplate_gpu_event *event;
	__u64 *since, now;

	if (BPF_CORE_READ_BITFIELD(before, in_iowait) && find_process(before->tgid)) {
		now = bpf_ktime_get_ns();
		bpf_map_update_elem(&waits, &gone, &now, BPF_ANY);
	}
	since = bpf_map_lookup_elem(&waits, &back);
	if (!since)
		return 0;
	process = find_process(after->tgid);
	now = bpf_ktime_get_ns();
	if (process && now - *since >= SHORT_WAIT_NS) {
		event = new_event(MEMPLATE_GPU_DISK, process->pid, sizeof(*event));
		if (event) {
			event->begin_ns = *since;
			event->thread = back;
			tell(event);
		}
	}
	bpf_map_delete_elem(&waits, &back);
	return 0;
}

/* Their calls of the driver: the cookie says which. */

SEC("uprobe")
int BPF_KPROBE(on_call, __u64 first, __u64 second, __u64 third)
{
	struct memplate_gpu_process *process = find_process(current_process());
	struct memplate_gpu_open_call call = {};
	struct memplate_gpu_key key = {};

	if (!process)
		return 0;
	key.thread = bpf_get_current_pid_tgid();
	key.call = bpf_get_attach_cookie(ctx);
	call.pid = process->pid;
	call.arguments[0] = first;
	call.arguments[1] = second;
	call.arguments[2] = third;
	call.begin_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&open_calls, &key, &call, BPF_ANY))
		count_lost();
	return 0;
}

static __always_inline void tell_call(struct memplate_gpu_key *key,
				      struct memplate_gpu_open_call *call, __u64 now, int result)
{
	struct memplate_gpu_event *event = new_event(MEMPLATE_GPU_CALL, call->pid, sizeof(*event));

	if (!event)
		return;
	event->begin_ns = call->begin_ns;
	event->end_ns = now;
	event->result = result;
	event->call = key->call;
	__builtin_memcpy(event->arguments, call->arguments, sizeof(call->arguments));
	tell(event);
}

SEC("uretprobe")
int BPF_KRETPROBE(on_return, int result)
{
	__u64 now = bpf_ktime_get_ns();
	struct memplate_gpu_key key = { .thread = bpf_get_current_pid_tgid(),
					.call = bpf_get_attach_cookie(ctx) };
	struct memplate_gpu_open_call *call = bpf_map_lookup_elem(&open_calls, &key);

	if (!call)
		return 0;
	tell_call(&key, call, now, result);
	bpf_map_delete_elem(&open_calls, &key);
	return 0;
}

/* cuGetProcAddress(name, &address, …) */
SEC("uretprobe")
int BPF_KRETPROBE(on_entry_point, int result)
{
	struct memplate_gpu_process *process = find_process(current_process());
	__u64 now = bpf_ktime_get_ns();
	struct memplate_gpu_key key = { .thread = bpf_get_current_pid_tgid(),
					.call = bpf_get_attach_cookie(ctx) };
	struct memplate_gpu_open_call *call = bpf_map_lookup_elem(&open_calls, &key);
	struct memplate_gpu_event *event;
	__u64 address = 0, offset;

	if (!call)
		return 0;
	tell_call(&key, call, now, result);
	if (process && process->driver && result == 0 && !no_more_entry_points &&
	    !bpf_probe_read_user(&address, sizeof(address), (void *)call->arguments[1]) && address) {
		offset = address - process->driver;
		if (!bpf_map_lookup_elem(&probed, &offset)) {
			event = new_event(MEMPLATE_GPU_ENTRY_POINT, process->pid, EVENT_WITH_TEXT);
			if (event) {
				event->arguments[0] = address;
				text_of(event)[0] = 0;
				bpf_probe_read_user_str(text_of(event), MEMPLATE_GPU_TEXT,
							(void *)call->arguments[0]);
				stop_and_tell(event);
			}
		}
	}
	bpf_map_delete_elem(&open_calls, &key);
	return 0;
}
