/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of pseudo_mm share.
 *
 * Objects: a pool (pool.c) owns or pins pages; a template (template.c) is an immutable list of runs
 * of them; a region (lazy.c) is the record of one mapping of a template. References go upwards
 * only: region's VMA -> template's file -> pool. A pool without descriptor and templates lingers
 * (linger.c) until no process uses its pages.
 *
 * Locks, outermost first:
 *   mmap_lock of the target            ATTACH for writing, then for reading; POOL and faults for
 *                                      reading, faults also by the VMA's own lock
 *   pmm_region::lock                   delivered bitmap of a lazy mapping
 *   lock of a large page               inside pmm_insert_pages(), before 6.2
 *   page table locks                   inside vm_insert_pages()
 * and, neither inside one of these nor one inside the other:
 *   pmm_template::lock                 extents while they are added; after SEAL nothing is written
 *   pmm_registry::lock                 the lists for debugfs and the lingering pools
 */
#ifndef PSEUDO_MM_INTERNAL_H
#define PSEUDO_MM_INTERNAL_H

#include <linux/atomic.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>
#include <linux/pseudo_mm.h>
#include <linux/refcount.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "compat.h"

static_assert(PAGE_SIZE == PSEUDO_MM_PAGE_SIZE);

/* Where the pages of a pool come from. */
enum pmm_source {
	PMM_OWNED,	/* alloc_page(), filled by copy */
	PMM_DEVICE,	/* pages of device DAX, kept by its page map */
	PMM_SHMEM,	/* pinned pages of a sealed memfd */
};

/* References of a page of device DAX that nobody uses. */
#define PMM_DEVICE_IDLE_REFS	1

struct pmm_pool {
	struct kref ref;		/* its descriptor, and each template */
	enum pmm_source source;
	struct page **pages;
	unsigned long nr_pages;		/* of a lingering pool: those that may be in use */
	atomic_long_t nr_templates;
	struct list_head node;		/* in pmm_registry, until freed */
	bool used;			/* had a template: its pages may be in processes */
	/* What keeps pinned pages in existence: struct dev_pagemap or struct file, by source. */
	void **holds;
	unsigned int nr_holds;
	/* lingering only */
	unsigned long cursor;		/* where the worker looks next */
};

/* Pages that follow each other both in the address space and in pmm_template::pages. */
struct pmm_run {
	unsigned long addr;
	unsigned long nr;
	unsigned long first;		/* index into pmm_template::pages */
	u32 kind;			/* PSEUDO_MM_SHARED, _COPIED, _LAZY */
};

struct pmm_template {
	struct pmm_pool *pool;
	struct mutex lock;		/* extents */
	bool sealed;			/* released by SEAL, acquired by users */
	struct pseudo_mm_extent *extents;	/* until SEAL */
	unsigned int nr_extents;
	unsigned int room;
	/* since SEAL */
	struct pmm_run *runs;		/* ascending addresses */
	unsigned int nr_runs;
	struct page **pages;		/* in the order of the runs */
	unsigned long nr_pages;
	unsigned long nr_kind[3];
	struct page *zero;		/* what discarded lazy pages read as */
	struct list_head node;		/* in pmm_registry */
	atomic_long_t attaches;
	atomic_long_t failed_attaches;
	atomic64_t attach_ns_total;
	atomic64_t attach_ns_max;
	atomic_long_t regions;
	atomic_long_t lazy_faults;
	atomic_long_t lazy_delivered;
};

/* One mapping of a template; shared by the VMAs it is split into, copied by fork. */
struct pmm_region {
	refcount_t ref;			/* VMAs */
	struct mm_struct *mm;		/* identity only: tells fork from split */
	struct pmm_template *template;	/* kept by the VMAs' file */
	struct mutex lock;		/* bitmap */
	/* The pages that can be delivered: offsets in the template, which are addresses. */
	unsigned long first;
	unsigned long nr;
	unsigned long *delivered;	/* pages that came once and will not come again */
};

/* Everything that exists only once. */
struct pmm_registry {
	struct mutex lock;		/* the lists, and the pools on the lingering one */
	struct list_head pools;
	struct list_head templates;
	struct list_head lingering;
	atomic_long_t nr_pools;
	atomic_long_t nr_lingering;
	atomic_long_t nr_templates;
	atomic_long_t nr_pages;
	atomic_long_t nr_regions;
	atomic_long_t attaches;
	atomic_long_t failed_attaches;
	atomic_long_t lazy_faults;
};

extern struct pmm_registry pmm_registry;

/* module parameters */
extern unsigned int pmm_max_pools;
extern unsigned int pmm_max_templates;
extern unsigned int pmm_max_extents;
extern unsigned long pmm_max_pool_pages;
extern unsigned int pmm_fault_around_pages;

/* Most pages that one lazy fault delivers: a power of two. */
static inline unsigned long pmm_fault_around(void)
{
	return rounddown_pow_of_two(clamp(READ_ONCE(pmm_fault_around_pages), 1U, 512U));
}

/* Adds @nr unless that passes @limit. */
bool pmm_charge(atomic_long_t *counter, unsigned long nr, unsigned long limit);

/*
 * Reads a structure whose first member is its size. @min is its size in version 1, @size what this
 * module knows. pmm_put_result() writes back as much as the caller's structure has.
 */
int pmm_get_argument(void *argument, size_t size, size_t min, const void __user *from);
int pmm_put_result(const void *result, size_t size, void __user *to);

/* pool.c */
int pmm_pool_create(const void __user *argument);
void pmm_pool_put(struct pmm_pool *pool);
/* Uses of a page beyond the pool's own. */
unsigned long pmm_live_references(const struct pmm_pool *pool, struct page *page);

/* linger.c */
/* Frees @pool now, or as soon as no process uses its pages. */
void pmm_pool_release(struct pmm_pool *pool);
void pmm_linger_exit(void);

/* template.c */
extern const struct file_operations pmm_template_fops;
int pmm_template_create(struct pmm_pool *pool, const void __user *argument);
/* The run that contains @addr, or NULL. */
const struct pmm_run *pmm_find_run(const struct pmm_template *template, unsigned long addr);

static inline bool pmm_is_sealed(const struct pmm_template *template)
{
	/* Pairs with the release in SEAL: who sees true sees the runs. */
	return smp_load_acquire(&template->sealed);
}

/* attach.c, fill.c */
int pmm_attach(struct pmm_template *template, void __user *argument);

/* lazy.c */
int pmm_lazy_mmap(struct file *file, struct vm_area_struct *vma);
/* The region if @vma is a mapping of @template, at the place its offset says; else NULL. */
struct pmm_region *pmm_region_of(struct vm_area_struct *vma, const struct pmm_template *template);
/* Records that pages [addr, addr + nr) were put in place by ATTACH. */
void pmm_region_delivered(struct pmm_region *region, unsigned long addr, unsigned long nr);

/* debugfs.c */
void pmm_debugfs_init(void);
void pmm_debugfs_exit(void);

#endif /* PSEUDO_MM_INTERNAL_H */
