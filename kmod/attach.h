/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What ATTACH (attach.c) and the filling of page tables (fill.c) have in common.
 */
#ifndef PSEUDO_MM_ATTACH_H
#define PSEUDO_MM_ATTACH_H

#include "internal.h"

struct pmm_attachment {
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
struct pmm_piece {
	struct vm_area_struct *vma;
	unsigned long start;
	unsigned long end;
	struct page **pages;
	const struct pmm_run *runs;	/* those of the span */
	unsigned int nr_runs;
};

static inline bool pmm_is_lazy(const struct pmm_run *run)
{
	return run->kind == PSEUDO_MM_LAZY;
}

/*
 * Each does its part of a piece; what is left after a failure is the caller's to clear. insert and
 * clear want mmap_lock for writing, copy wants it for reading at least. Insert before copy.
 */
int pmm_insert_piece(struct pmm_attachment *attachment, const struct pmm_piece *piece);
int pmm_copy_piece(struct pmm_attachment *attachment, const struct pmm_piece *piece);
int pmm_clear_piece(struct pmm_attachment *attachment, const struct pmm_piece *piece);

#endif /* PSEUDO_MM_ATTACH_H */
