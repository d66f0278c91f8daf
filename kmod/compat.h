/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one place that knows kernel versions. Everything else is written for the newest kernel; what
 * older ones lack or call by another name is supplied here.
 */
#ifndef PSEUDO_MM_COMPAT_H
#define PSEUDO_MM_COMPAT_H

#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/coredump.h>
#include <linux/version.h>

/* 6.3: vm_flags became read-only, and changing them write-locks the VMA against faults. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	lockdep_assert_held_write(&vma->vm_mm->mmap_lock);
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, unsigned long flags)
{
	lockdep_assert_held_write(&vma->vm_mm->mmap_lock);
	vma->vm_flags &= ~flags;
}
#endif

/* 6.5: the GUP family lost its array of VMAs. */
static inline long pmm_pin_shared(unsigned long addr, unsigned long nr, struct page **pages)
{
	const unsigned int flags = FOLL_LONGTERM | FOLL_HWPOISON;

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	return pin_user_pages(addr, nr, flags, pages, NULL);
#else
	return pin_user_pages(addr, nr, flags, pages);
#endif
}

/*
 * Pages of @mm, broken out of copy-on-write whatever the VMA's protection. @pages may be NULL: the
 * pages are only faulted in, and no reference is taken.
 */
static inline long pmm_get_private(struct mm_struct *mm, unsigned long addr, unsigned long nr,
				   struct page **pages)
{
	const unsigned int flags = FOLL_WRITE | FOLL_FORCE;

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	return get_user_pages_remote(mm, addr, nr, flags, pages, NULL, NULL);
#else
	return get_user_pages_remote(mm, addr, nr, flags, pages, NULL);
#endif
}

/*
 * Clearing page tables. Mainline exports neither function; Debian exports one of them. Without any,
 * pages that are present are overwritten instead, which needs a vm_insert_pages() that survives
 * huge pages in its way: 6.5 and later.
 */
#if defined(HAVE_ZAP_PAGE_RANGE_SINGLE)
#define PMM_CAN_ZAP 1
static inline void pmm_zap(struct vm_area_struct *vma, unsigned long addr, unsigned long len)
{
	zap_page_range_single(vma, addr, len, NULL);
}
#elif defined(HAVE_ZAP_PAGE_RANGE)
#define PMM_CAN_ZAP 1
static inline void pmm_zap(struct vm_area_struct *vma, unsigned long addr, unsigned long len)
{
	zap_page_range(vma, addr, len);
}
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
#define PMM_CAN_ZAP 0
static inline void pmm_zap(struct vm_area_struct *vma, unsigned long addr, unsigned long len)
{
}
#else
#error "neither zap_page_range nor zap_page_range_single is exported: 6.5 or later is needed"
#endif

/*
 * vm_insert_pages(). Before 6.2 a large page of a file keeps a flag that parts of it are mapped, and
 * its lock has to be held while that is set.
 */
static inline int pmm_insert_pages(struct vm_area_struct *vma, unsigned long addr,
				   struct page **pages, unsigned long *left)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	while (*left) {
		struct page *head = compound_head(*pages);
		const bool large = PageCompound(head);
		unsigned long nr, rest;
		int ret;

		for (nr = 1; nr < *left; nr++)
			if (large ? compound_head(pages[nr]) != head : PageCompound(pages[nr]))
				break;
		rest = nr;
		if (large)
			lock_page(head);
		ret = vm_insert_pages(vma, addr, pages, &rest);
		if (large)
			unlock_page(head);
		nr -= rest;
		*left -= nr;
		pages += nr;
		addr += nr << PAGE_SHIFT;
		if (ret)
			return ret;
	}
	return 0;
#else
	return vm_insert_pages(vma, addr, pages, left);
#endif
}

/* Page table entries that map this very page. */
static inline unsigned long pmm_page_mappings(struct page *page)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return page_mapcount(page);
#else
	return atomic_read(&page->_mapcount) + 1;
#endif
}

/* 6.18: get_dev_pagemap() lost its cache. */
static inline struct dev_pagemap *pmm_get_pgmap(unsigned long pfn)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
	return get_dev_pagemap(pfn, NULL);
#else
	return get_dev_pagemap(pfn);
#endif
}

/* 6.15: kernels that count the mappings of a large folio only as a whole. */
#define PMM_NO_PAGE_MAPCOUNT IS_ENABLED(CONFIG_NO_PAGE_MAPCOUNT)

/* The OOM killer has begun to take the memory away. */
static inline bool pmm_mm_is_dying(struct mm_struct *mm)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
	return test_bit(MMF_UNSTABLE, &mm->flags);
#else
	return mm_flags_test(MMF_UNSTABLE, mm);
#endif
}

/* 6.16: files without a path cannot be mapped executable. */
#define PMM_ANON_INODES_ARE_NOEXEC (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0))

/* x86 shadow stacks came with 6.6, mseal() with 6.10; 32-bit kernels have neither. */
#ifndef VM_SHADOW_STACK
#define VM_SHADOW_STACK VM_NONE
#endif
#ifndef VM_SEALED
#define VM_SEALED VM_NONE
#endif
/* 6.11: memory that the kernel may drop at any time. */
#ifndef VM_DROPPABLE
#define VM_DROPPABLE VM_NONE
#endif

#endif /* PSEUDO_MM_COMPAT_H */
