// SPDX-License-Identifier: GPL-2.0-only
/*
 * ATTACH: template pages become part of private anonymous memory.
 *
 * What makes a page table entry of an anonymous VMA "a template page" is nothing but the page: it
 * is not PageAnon, and the entry is read-only because vm_page_prot of a private VMA is. So
 *   - a store takes do_wp_page(), which copies;
 *   - an entry that goes away (MADV_DONTNEED, a hole) is none, and do_anonymous_page() gives zeros;
 *   - fork copies page tables, provided the VMA has an anon_vma: it is forced where nobody has
 *     written yet, which costs one private page;
 *   - vm_insert_pages() does references, reverse mapping counts and RSS; it demands VM_MIXEDMAP,
 *     which must not stay: special VMAs neither merge nor grow.
 * COPIED pages are inserted like the others and then broken out of copy-on-write, so that they are
 * allocated, charged to the memory cgroup of the target and put on its LRU by the kernel itself,
 * and no transparent huge page can come into being beside inserted entries.
 *
 * Locking: mmap_lock of the target for writing, from the first check until every page is inserted,
 * so that what was checked stays true. Faults that go by the VMA's own lock (6.4 and later) are
 * shut out by vm_flags_set(), which comes before anything is cleared. Then the lock is downgraded,
 * never dropped: VMAs stay as they are and nobody forks, but should the OOM killer choose the
 * target while pages are copied, its reaper can have the memory.
 *
 * The OOM killer is not to be called by ATTACH itself: the target keeps its memory as long as the
 * call lasts, so that others of its memory cgroup would have to die as well. Room is made sure of
 * before each step, by a charge that fails instead.
 *
 * Clearing anonymous memory first is essential: inserting below a transparent huge page corrupts
 * memory on kernels before 6.5. Lazy regions cannot have one: nothing makes them in a VMA that has
 * a file without huge_fault(), is given single pages by its fault() and is kept from khugepaged by
 * VM_MIXEDMAP, and none can be moved in. So they need no clearing but where vm_insert_pages()
 * finds an entry that is not none (delivered, written, swapped out, a page of zeros; of this
 * process or its parent): it inserts before that entry, and says so. A small working set in many
 * pieces is mostly none, and clearing one costs as much as inserting three pages.
 */
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/memcontrol.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>
#include <linux/userfaultfd_k.h>

#include "internal.h"
#include "trace.h"

#define TABLE_BATCH	8UL
#define COPY_BATCH	32UL

struct attachment {
	struct pmm_template *template;
	struct mm_struct *mm;
	u64 shared;
	u64 copied;
	unsigned long error_addr;	/* where the last walk stopped */
	unsigned long table_end;	/* of what the last page table maps */
	unsigned long tables;		/* page tables that can be charged */
	unsigned long room;		/* pages that can be charged */
};

/* The part of a span of runs that lies in one VMA. */
struct piece {
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned long end;
	struct page **pages;
	const struct pmm_run *runs;	/* those of the span */
	unsigned int nr_runs;
};

static bool is_lazy(const struct pmm_run *run)
{
	return run->kind == PSEUDO_MM_LAZY;
}

typedef int (*piece_fn)(struct attachment *attachment, const struct piece *piece);

static int check_piece(struct attachment *attachment, const struct piece *piece)
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
	if (is_lazy(piece->runs))
		return -ENXIO;
	if (vma_is_anonymous(vma) && !vma->vm_file && !(vma->vm_flags & VM_MIXEDMAP))
		return 0;
	return -EOPNOTSUPP;
}

/*
 * How many of @nr pages can be charged now without the OOM killer: charged and given back, which
 * leaves them in this processor's stock of charges. 0: the memory cgroup is at its limit.
 */
static unsigned long room_for(unsigned long nr)
{
	unsigned int order;

	for (order = ilog2(nr);; order--) {
		struct page *page = alloc_pages(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL |
						__GFP_NOWARN, order);

		if (page) {
			__free_pages(page, order);
			return 1UL << order;
		}
		if (!order)
			return 0;
	}
}

/* Where page tables cannot be cleared: a present page is overwritten, like by the debugger. */
static int overwrite(struct attachment *attachment, unsigned long addr, struct page *from)
{
	struct page *to;
	long got = pmm_get_private(attachment->mm, addr, 1, &to);

	if (got != 1)
		return got ?: -EFAULT;
	copy_highpage(to, from);
	set_page_dirty_lock(to);
	put_page(to);
	return 0;
}

/*
 * Makes sure that the page table for @addr can be charged. Tables are counted, because looking for
 * room costs as much as they do: most kernels clear what they allocate. Addresses ascend.
 */
static int table_for(struct attachment *attachment, unsigned long addr)
{
	/* Under another upper entry than the last: those above it may be missing, too. */
	const bool new = addr >> PUD_SHIFT != (attachment->table_end - 1) >> PUD_SHIFT;
	const unsigned long nr = new ? CONFIG_PGTABLE_LEVELS - 1 : 1;

	if (addr < attachment->table_end)
		return 0;
	if (attachment->tables < nr)
		attachment->tables = room_for(TABLE_BATCH);
	if (attachment->tables < nr)
		return -ENOMEM;
	attachment->tables -= nr;
	attachment->table_end = (addr & PMD_MASK) + PMD_SIZE;
	return 0;
}

static int insert_pages(struct attachment *attachment, const struct piece *piece)
{
	bool cleared = vma_is_anonymous(piece->vma);
	struct page **pages = piece->pages;
	unsigned long addr = piece->start;

	if (cleared)
		pmm_zap(piece->vma, addr, piece->end - addr);
	while (addr < piece->end) {
		unsigned long nr, left;
		int ret = table_for(attachment, addr);

		if (ret)
			return ret;
		nr = (min(piece->end, attachment->table_end) - addr) >> PAGE_SHIFT;
		left = nr;
		ret = pmm_insert_pages(piece->vma, addr, pages, &left);
		attachment->shared += nr - left;
		pages += nr - left;
		addr += (nr - left) << PAGE_SHIFT;
		if (!PMM_CAN_ZAP && (ret == -EBUSY || ret == -EFAULT)) {
			/* Counted as shared until copy_piece() says otherwise. */
			ret = overwrite(attachment, addr, *pages);
			attachment->shared++;
			pages++;
			addr += PAGE_SIZE;
		}
		if (PMM_CAN_ZAP && ret == -EBUSY && !cleared) {
			pmm_zap(piece->vma, addr, piece->end - addr);
			cleared = true;
			continue;
		}
		/*
		 * The range was checked and cleared: it is page tables that could not be had, or
		 * guard markers (6.13) that clearing leaves.
		 */
		if (PMM_CAN_ZAP && ret == -EFAULT)
			return -ENOMEM;
		if (PMM_CAN_ZAP && ret == -EBUSY)
			return -EOPNOTSUPP;
		if (ret)
			return ret;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* Gives [start, end) pages of its own. */
static int copy(struct attachment *attachment, unsigned long start, unsigned long end)
{
	while (start < end) {
		long got;

		if (!attachment->room)
			attachment->room = room_for(COPY_BATCH);
		if (!attachment->room)
			return -ENOMEM;
		got = pmm_get_private(attachment->mm, start,
				      min((end - start) >> PAGE_SHIFT, attachment->room), NULL);
		/* The second: every user but this one has ended, and with them who is charged. */
		if (pmm_mm_is_dying(attachment->mm) || atomic_read(&attachment->mm->mm_users) == 1)
			return -ESRCH;
		if (got <= 0)
			return got ?: -EFAULT;
		attachment->room -= got;
		attachment->shared -= got;
		attachment->copied += got;
		start += got << PAGE_SHIFT;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static int copy_piece(struct attachment *attachment, const struct piece *piece)
{
	const struct pmm_run *stop = piece->runs + piece->nr_runs;
	const struct pmm_run *run;
	int ret;

	if (is_lazy(piece->runs))
		return 0;
	run = pmm_find_run(attachment->template, piece->start);
	for (; run < stop && run->addr < piece->end; run++) {
		const unsigned long start = max(run->addr, piece->start);
		const unsigned long end = min(run->addr + run->nr * PAGE_SIZE, piece->end);

		if (run->kind != PSEUDO_MM_COPIED || start >= end)
			continue;
		ret = copy(attachment, start, end);
		if (ret)
			return ret;
	}
	/* One private page gives the VMA an anon_vma, without which fork would skip it. */
	if (vma_is_anonymous(piece->vma) && !READ_ONCE(piece->vma->anon_vma))
		return copy(attachment, piece->start, piece->start + PAGE_SIZE);
	return 0;
}

/*
 * khugepaged looks at a range, lets go of mmap_lock, and takes it again to collapse what it saw. What
 * was attached in between it finds unsuitable by its references; but kernels with DEBUG_VM assert
 * before that it is PageAnon. They get VMAs that it has to give up when it takes the lock.
 */
static void keep_khugepaged_out(struct vm_area_struct *vma)
{
	if (!IS_ENABLED(CONFIG_DEBUG_VM))
		return;
	vm_flags_set(vma, VM_NOHUGEPAGE);
	vm_flags_clear(vma, VM_HUGEPAGE);
}

static int insert_piece(struct attachment *attachment, const struct piece *piece)
{
	struct vm_area_struct *vma = piece->vma;
	int ret;

	if (is_lazy(piece->runs))
		return 0;
	lockdep_assert_held_write(&attachment->mm->mmap_lock);
	vm_flags_set(vma, VM_MIXEDMAP);
	ret = insert_pages(attachment, piece);
	if (vma_is_anonymous(vma)) {
		vm_flags_clear(vma, VM_MIXEDMAP);
		keep_khugepaged_out(vma);
	} else {
		pmm_region_delivered(vma->vm_private_data, piece->start,
				     (piece->end - piece->start) >> PAGE_SHIFT);
	}
	return ret;
}

static int clear_piece(struct attachment *attachment, const struct piece *piece)
{
	if (!is_lazy(piece->runs))
		pmm_zap(piece->vma, piece->start, piece->end - piece->start);
	return 0;
}

/* Calls @fn for each piece; a span is a chain of runs without a gap, LAZY ones apart. */
static int walk_pieces(struct attachment *attachment, piece_fn fn)
{
	const struct pmm_template *template = attachment->template;
	struct vm_area_struct *vma = NULL;
	unsigned int first, next;
	int ret;

	for (first = 0; first < template->nr_runs; first = next) {
		const struct pmm_run *run = &template->runs[first];
		struct piece piece = { .runs = run, .start = run->addr };
		unsigned long end = run->addr + run->nr * PAGE_SIZE;

		for (next = first + 1; next < template->nr_runs; next++) {
			const struct pmm_run *other = &template->runs[next];

			const bool same = is_lazy(other) == is_lazy(run);

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
static void undo(struct attachment *attachment)
{
	const unsigned long error_addr = attachment->error_addr;

	walk_pieces(attachment, clear_piece);
	attachment->error_addr = error_addr;
}

static int attach(struct attachment *attachment)
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
	ret = walk_pieces(attachment, insert_piece);
	if (ret) {
		undo(attachment);
		mmap_write_unlock(mm);
		return ret;
	}
	mmap_write_downgrade(mm);
	ret = walk_pieces(attachment, copy_piece);
	if (ret)
		undo(attachment);
	mmap_read_unlock(mm);
	return ret;
}

/* Page tables are charged to the target's memory cgroup like its pages, not to the caller's. */
static int attach_charged(struct attachment *attachment)
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
	struct attachment attachment = { .template = template };
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
