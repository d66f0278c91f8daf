// SPDX-License-Identifier: GPL-2.0-only
/*
 * Page tables of an attached piece.
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
#include <linux/memcontrol.h>
#include <linux/sched/signal.h>

#include "attach.h"

#define TABLE_BATCH	8UL
#define COPY_BATCH	32UL

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
static int overwrite(struct pmm_attachment *attachment, unsigned long addr, struct page *from)
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
static int table_for(struct pmm_attachment *attachment, unsigned long addr)
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

static int insert_pages(struct pmm_attachment *attachment, const struct pmm_piece *piece)
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
			ret = overwrite(attachment, addr, *pages);
			/* Of COPIED extents all count as shared until they are copied. */
			if (pmm_find_run(attachment->template, addr)->kind == PSEUDO_MM_COPIED)
				attachment->shared++;
			else
				attachment->copied++;
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
static int copy(struct pmm_attachment *attachment, unsigned long start, unsigned long end)
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

int pmm_copy_piece(struct pmm_attachment *attachment, const struct pmm_piece *piece)
{
	const struct pmm_run *stop = piece->runs + piece->nr_runs;
	const struct pmm_run *run;
	int ret;

	if (pmm_is_lazy(piece->runs))
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
 * khugepaged looks at a range, lets go of mmap_lock, and takes it again to collapse what it saw.
 * What was attached in between it finds unsuitable by its references; but kernels with DEBUG_VM
 * assert before that it is PageAnon. They get VMAs that it has to give up when it takes the lock.
 */
static void keep_khugepaged_out(struct vm_area_struct *vma)
{
	if (!IS_ENABLED(CONFIG_DEBUG_VM))
		return;
	vm_flags_set(vma, VM_NOHUGEPAGE);
	vm_flags_clear(vma, VM_HUGEPAGE);
}

int pmm_insert_piece(struct pmm_attachment *attachment, const struct pmm_piece *piece)
{
	struct vm_area_struct *vma = piece->vma;
	int ret;

	if (pmm_is_lazy(piece->runs))
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

int pmm_clear_piece(struct pmm_attachment *attachment, const struct pmm_piece *piece)
{
	if (!pmm_is_lazy(piece->runs))
		pmm_zap(piece->vma, piece->start, piece->end - piece->start);
	return 0;
}
