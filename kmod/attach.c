// SPDX-License-Identifier: GPL-2.0-only
/*
 * ATTACH: template pages become part of private anonymous memory, all or none. Here is what is
 * attached to what, and in which order; fill.c has what is done to page tables, and why.
 *
 * Locking: mmap_lock of the target for writing, from the first check until every page is inserted,
 * so that what was checked stays true. Faults that go by the VMA's own lock (6.4 and later) are
 * shut out by vm_flags_set(), which comes before anything is cleared. Then the lock is downgraded,
 * never dropped: VMAs stay as they are and nobody forks, but should the OOM killer choose the
 * target while pages are copied, its reaper can have the memory.
 */
#include <linux/hugetlb.h>
#include <linux/memcontrol.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>
#include <linux/userfaultfd_k.h>

#include "attach.h"
#include "trace.h"

typedef int (*piece_fn)(struct pmm_attachment *attachment, const struct pmm_piece *piece);

static int check_piece(struct pmm_attachment *attachment, const struct pmm_piece *piece)
{
	const unsigned long refused = VM_SHARED | VM_MAYSHARE | VM_HUGETLB | VM_LOCKED |
				      VM_LOCKONFAULT | VM_IO | VM_PFNMAP | VM_SHADOW_STACK |
				      VM_SEALED | VM_DROPPABLE;
	struct vm_area_struct *vma = piece->vma;
	bool right = !(vma->vm_flags & refused) && (vma->vm_flags & VM_MAYWRITE) &&
		     !userfaultfd_armed(vma);

	if (right && pmm_region_of(vma, attachment->template))
		return 0;
	if (!right)
		return -EOPNOTSUPP;
	if (pmm_is_lazy(piece->runs))
		return -ENXIO;
	if (vma_is_anonymous(vma) && !vma->vm_file && !(vma->vm_flags & VM_MIXEDMAP))
		return 0;
	return -EOPNOTSUPP;
}

/* Calls @fn for each piece; a span is a chain of runs without a gap, LAZY ones apart. */
static int walk_pieces(struct pmm_attachment *attachment, piece_fn fn)
{
	const struct pmm_template *template = attachment->template;
	struct vm_area_struct *vma = NULL;
	unsigned int first, next;
	int ret;

	for (first = 0; first < template->nr_runs; first = next) {
		const struct pmm_run *run = &template->runs[first];
		struct pmm_piece piece = { .runs = run, .start = run->addr };
		unsigned long end = run->addr + run->nr * PAGE_SIZE;

		for (next = first + 1; next < template->nr_runs; next++) {
			const struct pmm_run *other = &template->runs[next];

			const bool same = pmm_is_lazy(other) == pmm_is_lazy(run);

			if (other->addr != end || !same)
				break;
			end += other->nr * PAGE_SIZE;
		}
		piece.nr_runs = next - first;
		for (; piece.start < end; piece.start = piece.end) {
			if (!vma || piece.start >= vma->vm_end)
				vma = vma_lookup(attachment->mm, piece.start);
			if (vma) {
				piece.vma = vma;
				piece.end = min(end, vma->vm_end);
				piece.pages = template->pages + run->first +
					      ((piece.start - run->addr) >> PAGE_SHIFT);
				ret = fn(attachment, &piece);
			} else {
				ret = -EFAULT;
			}
			if (ret) {
				attachment->error_addr = piece.start;
				return ret;
			}
		}
		cond_resched();
	}
	return 0;
}

/*
 * After a failure nothing may be left that fork would not copy. Ranges that were not reached lose
 * their pages as well: the process is of no use any more.
 */
static void undo(struct pmm_attachment *attachment)
{
	const unsigned long error_addr = attachment->error_addr;

	walk_pieces(attachment, pmm_clear_piece);
	attachment->error_addr = error_addr;
}

static int attach(struct pmm_attachment *attachment)
{
	struct mm_struct *mm = attachment->mm;
	int ret;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	ret = pmm_mm_is_dying(mm) ? -ESRCH : walk_pieces(attachment, check_piece);
	if (ret) {
		mmap_write_unlock(mm);
		return ret;
	}
	ret = walk_pieces(attachment, pmm_insert_piece);
	if (ret) {
		undo(attachment);
		mmap_write_unlock(mm);
		return ret;
	}
	mmap_write_downgrade(mm);
	ret = walk_pieces(attachment, pmm_copy_piece);
	if (ret)
		undo(attachment);
	mmap_read_unlock(mm);
	return ret;
}

/* Page tables are charged to the target's memory cgroup like its pages, not to the caller's. */
static int attach_charged(struct pmm_attachment *attachment)
{
	struct mem_cgroup *charged = get_mem_cgroup_from_mm(attachment->mm);
	struct mem_cgroup *before = set_active_memcg(charged);
	const int ret = attach(attachment);

	set_active_memcg(before);
	mem_cgroup_put(charged);
	return ret;
}

/*
 * The target's memory. ptrace_may_access() and mm_access() are not exported; the capability in the
 * namespace that owns the memory is the part of their rule that cannot be left out.
 */
static struct mm_struct *get_target(pid_t number)
{
	struct task_struct *task;
	struct mm_struct *mm;
	struct pid *pid;

	if (!number) {
		mmget(current->mm);
		return current->mm;
	}
	pid = find_get_pid(number);
	task = get_pid_task(pid, PIDTYPE_TGID);
	put_pid(pid);
	if (!task)
		return ERR_PTR(-ESRCH);
	mm = get_task_mm(task);
	put_task_struct(task);
	if (!mm)
		return ERR_PTR(-ESRCH);
	if (mm != current->mm && !ns_capable(mm->user_ns, CAP_SYS_PTRACE)) {
		mmput(mm);
		return ERR_PTR(-EPERM);
	}
	return mm;
}

static void count(struct pmm_template *template, u64 nanoseconds, int ret)
{
	s64 max;

	if (ret) {
		atomic_long_inc(&template->failed_attaches);
		atomic_long_inc(&pmm_registry.failed_attaches);
		return;
	}
	atomic_long_inc(&template->attaches);
	atomic_long_inc(&pmm_registry.attaches);
	atomic64_add(nanoseconds, &template->attach_ns_total);
	max = atomic64_read(&template->attach_ns_max);
	while (max < (s64)nanoseconds &&
	       !atomic64_try_cmpxchg(&template->attach_ns_max, &max, nanoseconds))
		;
}

int pmm_attach(struct pmm_template *template, void __user *to)
{
	struct pmm_attachment attachment = { .template = template };
	struct pseudo_mm_attach argument;
	u64 begin;
	int ret;

	ret = pmm_get_argument(&argument, sizeof(argument),
			       offsetofend(struct pseudo_mm_attach, error_addr), to);
	if (ret)
		return ret;
	if (argument.flags || argument.pad || argument.pid < 0)
		return -EINVAL;
	if (!pmm_is_sealed(template))
		return -EBADFD;
	/* Nothing is to be attached that the caller would be told has failed. */
	ret = pmm_put_result(&argument, sizeof(argument), to);
	if (ret)
		return ret;

	begin = ktime_get_ns();
	attachment.mm = get_target(argument.pid);
	if (IS_ERR(attachment.mm)) {
		ret = PTR_ERR(attachment.mm);
	} else {
		ret = attach_charged(&attachment);
		mmput(attachment.mm);
	}
	argument.nanoseconds = ktime_get_ns() - begin;
	argument.pages_shared = ret ? 0 : attachment.shared;
	argument.pages_copied = ret ? 0 : attachment.copied;
	argument.error_addr = ret ? attachment.error_addr : 0;
	count(template, argument.nanoseconds, ret);
	trace_pseudo_mm_attach(argument.pid, argument.pages_shared, argument.pages_copied,
			       argument.nanoseconds, ret);
	/* What is done is done, even if the memory for the results has gone meanwhile. */
	pmm_put_result(&argument, sizeof(argument), to);
	return ret;
}
