/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * pseudo_mm: read-only template pages in the anonymous memory of many processes.
 *
 * Three kinds of file descriptor, each owning the one before it:
 *
 *   /dev/pseudo_mm  --POOL-->  pool  --TEMPLATE-->  template  --ATTACH-->  pages in a process
 *
 * A pool is an array of 4 KiB pages. A template says which pool page belongs at which address of
 * one address space, and how it gets there. ATTACH fills the private anonymous memory of a process
 * with the pages of a sealed template. The process sees ordinary anonymous memory: the first store
 * to a page gives it a copy of its own, MADV_DONTNEED gives zeros, fork, mremap, mprotect, swap and
 * ptrace work as always.
 *
 * Conventions of every ioctl:
 * - The first member of each structure is its size as the caller knows it. A smaller structure is
 *   an older caller's: what it lacks reads as 0. A larger one is accepted if what the module does
 *   not know is 0, otherwise E2BIG. Results are written up to the caller's size.
 * - Unknown flags and padding that is not 0 give EINVAL. Addresses and lengths are in bytes, page
 *   numbers count 4 KiB pages.
 * - Errors that any of them can give: EFAULT (the argument cannot be read or written), EINVAL (its
 *   size is below that of version 1), E2BIG, ENOTTY (unknown ioctl, or of another kind of
 *   descriptor), ENOMEM; where a descriptor is returned, EMFILE and ENFILE.
 *
 * Lifetime: a descriptor keeps what it was made from. Pages outlive every descriptor while a
 * process still uses them: their pool stays, invisible but counted (INFO: lingering_pools), until
 * the last use ends; the module cannot be unloaded and a device cannot be unbound before.
 */
#ifndef _UAPI_LINUX_PSEUDO_MM_H
#define _UAPI_LINUX_PSEUDO_MM_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define PSEUDO_MM_DEVICE	"/dev/pseudo_mm"
/* Raised only if an old caller would go wrong; additions are found through sizes and features. */
#define PSEUDO_MM_ABI		1
#define PSEUDO_MM_PAGE_SIZE	4096

#define PSEUDO_MM_IOC_TYPE	0xb9

/*
 * INFO, on /dev/pseudo_mm: what this module can do, its limits, and what it holds right now.
 */
#define PSEUDO_MM_IOC_INFO	_IO(PSEUDO_MM_IOC_TYPE, 0)

/* features */
/* ATTACH by pid fills other processes. */
#define PSEUDO_MM_FEATURE_REMOTE	(1ULL << 0)
/* Templates can be mapped and deliver PSEUDO_MM_LAZY pages at the first touch. */
#define PSEUDO_MM_FEATURE_LAZY		(1ULL << 1)
/*
 * A failed ATTACH leaves zeros where it had begun. Without it (kernels that export no way to clear
 * page tables) the target's ranges hold template bytes or zeros after a failure.
 */
#define PSEUDO_MM_FEATURE_ROLLBACK	(1ULL << 2)

/* lazy_differences: how memory mapped from a template differs from anonymous memory */
/* MADV_DONTNEED on a page nobody has touched yet does not make it zero. */
#define PSEUDO_MM_LAZY_DONTNEED_UNTOUCHED	(1ULL << 0)
/*
 * MADV_FREE, MADV_WIPEONFORK and userfaultfd are refused, mlock() has no effect, mremap() cannot
 * grow.
 */
#define PSEUDO_MM_LAZY_NO_ANONYMOUS_ADVICE	(1ULL << 1)
/* Core dumps leave a mapping out that was never written, and deliver all of one that was. */
#define PSEUDO_MM_LAZY_CORE_DUMP_PARTIAL	(1ULL << 2)
/* The kernel refuses to execute from it where anonymous inodes are noexec (6.16). */
#define PSEUDO_MM_LAZY_NOT_EXECUTABLE		(1ULL << 3)

struct pseudo_mm_info {
	__u32 size;			/* in */
	__u32 flags;			/* in: 0 */
	__u32 abi;			/* PSEUDO_MM_ABI */
	__u32 fault_around_pages;	/* most pages one lazy fault delivers */
	__u64 features;
	__u64 lazy_differences;
	/* limits (module parameters) */
	__u64 max_pools;
	__u64 max_templates;
	__u64 max_extents;		/* of one template */
	__u64 max_pool_pages;		/* of all pools together */
	/* held now */
	__u64 pools;			/* with a descriptor, or kept by a template */
	__u64 lingering_pools;		/* without either, waiting for processes */
	__u64 templates;
	__u64 pool_pages;		/* pinned or owned */
	__u64 lazy_regions;		/* mappings of templates */
	/* since the module was loaded */
	__u64 attaches;
	__u64 failed_attaches;
	__u64 lazy_faults;
};

/*
 * POOL, on /dev/pseudo_mm: makes a pool of the caller's memory; returns its descriptor (O_CLOEXEC).
 *
 * The ranges, in the order given, become pages 0, 1, 2, ... of the pool. Without flags the pages
 * themselves are pinned and shared; what they hold must not change while a template refers to them.
 * Accepted are MAP_SHARED mappings of device DAX, and of memfds sealed against shrinking and
 * against writing (F_SEAL_SHRINK with F_SEAL_WRITE or F_SEAL_FUTURE_WRITE): taking pages away from
 * a file while processes use them would corrupt memory. With PSEUDO_MM_POOL_COPY any readable
 * memory is accepted and copied into pages that the pool owns.
 *
 * EPERM       the caller lacks CAP_IPC_LOCK, or the memfd (shared anonymous memory is one) is not
 *             sealed
 * EINVAL      no range, a range that is empty or not of whole pages, flags
 * EFAULT      a range is not mapped
 * EOPNOTSUPP  memory of another kind: private, huge pages of hugetlbfs, a file of
 *             another file system, device memory that has no struct page
 * ENOSPC      max_pools or max_pool_pages is reached
 * EINTR       a signal arrived that ends the caller
 * EIO         a page is damaged (memory failure)
 */
#define PSEUDO_MM_IOC_POOL	_IO(PSEUDO_MM_IOC_TYPE, 1)

#define PSEUDO_MM_POOL_COPY	(1U << 0)

struct pseudo_mm_range {
	__u64 addr;
	__u64 len;
};

struct pseudo_mm_pool {
	__u32 size;
	__u32 flags;		/* PSEUDO_MM_POOL_* */
	__u64 ranges;		/* struct pseudo_mm_range * */
	__u32 nr_ranges;	/* at most PSEUDO_MM_MAX_RANGES */
	__u32 pad;
};

#define PSEUDO_MM_MAX_RANGES	(1U << 20)

/*
 * TEMPLATE, on a pool: starts a template; returns its descriptor (O_CLOEXEC).
 *
 * EINVAL      flags
 * ENOSPC      max_templates is reached
 */
#define PSEUDO_MM_IOC_TEMPLATE	_IO(PSEUDO_MM_IOC_TYPE, 2)

struct pseudo_mm_template {
	__u32 size;
	__u32 flags;		/* 0 */
};

/*
 * ADD, on a template: says what belongs where. Extents come in ascending order of address and do
 * not overlap one another or what was added before. On an error nothing of the call is added.
 *
 * EINVAL      address not a page's, no pages, unknown kind, beyond the pool, order, nr_extents 0
 * ERANGE      beyond the addresses of user space
 * EEXIST      overlaps the extent before it
 * ENOSPC      max_extents is reached
 * EROFS       the template is sealed
 */
#define PSEUDO_MM_IOC_ADD	_IO(PSEUDO_MM_IOC_TYPE, 3)

/* Shared at ATTACH: no fault to read, one copy-on-write fault to write. */
#define PSEUDO_MM_SHARED	0
/* Copied at ATTACH, charged to the target's memory cgroup: no fault at all. */
#define PSEUDO_MM_COPIED	1
/*
 * Shared at the first touch. The process must map the template there (below) before ATTACH.
 */
#define PSEUDO_MM_LAZY		2

struct pseudo_mm_extent {
	__u64 addr;
	__u64 page;		/* first page in the pool */
	__u64 nr_pages;
	__u32 kind;		/* PSEUDO_MM_SHARED, _COPIED, _LAZY */
	__u32 pad;
};

struct pseudo_mm_add {
	__u32 size;
	__u32 flags;		/* 0 */
	__u64 extents;		/* struct pseudo_mm_extent * */
	__u32 nr_extents;	/* at most PSEUDO_MM_MAX_ADD */
	__u32 pad;
};

#define PSEUDO_MM_MAX_ADD	(1U << 16)

/*
 * SEAL, on a template: no more ADD; now it can be attached and mapped.
 *
 * EINVAL      flags; the template is empty
 * EROFS       it is sealed already
 */
#define PSEUDO_MM_IOC_SEAL	_IO(PSEUDO_MM_IOC_TYPE, 4)

struct pseudo_mm_seal {
	__u32 size;
	__u32 flags;		/* 0 */
};

/*
 * ATTACH, on a sealed template: fills the memory of a process. All or nothing: every extent is
 * checked before anything is touched, and a failure after that (ENOMEM, EINTR, ESRCH) leaves zeros in
 * all SHARED and COPIED ranges (see PSEUDO_MM_FEATURE_ROLLBACK); a process in that state is to be
 * killed. Pages present in those ranges are dropped first.
 *
 * SHARED and COPIED extents fill private anonymous mappings, or a private mapping of this very
 * template whose offset equals its address. LAZY extents must lie in such mappings; nothing there is
 * dropped. The target should be stopped, or at least not be using the ranges. Other users of its
 * address space (ps, for example) wait until the call is through. What COPIED extents and page
 * tables need is charged to the target's memory cgroup. At its limit the call fails, and nobody is
 * killed for it, unless the caller is moved to another processor, or others of the group take what
 * was found free, in the moment before its use.
 *
 * Attaching to another process needs CAP_SYS_PTRACE in the user namespace that owns the target's
 * memory. Process numbers are those of the caller's pid namespace: hold a pidfd, or the process as
 * an unreaped child, over the call.
 *
 * EINVAL      flags, pid below 0
 * EBADFD      the template is not sealed
 * ESRCH       no such process, it is ending, its main thread has ended, or the OOM killer has taken
 *             its memory
 * EPERM       not allowed (above)
 * EFAULT      error_addr: nothing is mapped there
 * EOPNOTSUPP  error_addr: memory of another kind is mapped there: shared, of a file or a device,
 *             of hugetlbfs, locked (mlock), sealed (mseal), droppable, with guard pages
 *             (MADV_GUARD_INSTALL), a shadow stack, or watched by userfaultfd
 * ENXIO       error_addr: a LAZY extent without a mapping of the template at its own offset
 * ENOMEM      no memory, or the target's memory cgroup is at its limit
 * EINTR       a signal arrived that ends the caller
 */
#define PSEUDO_MM_IOC_ATTACH	_IO(PSEUDO_MM_IOC_TYPE, 5)

struct pseudo_mm_attach {
	__u32 size;
	__u32 flags;		/* 0 */
	__s32 pid;		/* 0: the caller */
	__u32 pad;
	/* out */
	__u64 pages_shared;
	__u64 pages_copied;	/* of COPIED extents, and one for each mapping never written before */
	__u64 nanoseconds;
	__u64 error_addr;
};

/*
 * STAT, on a pool or a template.
 *
 * live_references counts the uses of the pages beyond those the pools themselves hold: page table
 * entries of processes and I/O in flight; for a memfd, and for a device since Linux 6.15, also page
 * table entries of its own mappings. I/O is not seen in a memfd. With a device's 2 MiB pages it
 * cannot be told which of the 512 it uses: each that no page table maps counts as used once.
 *
 * 0 does not mean that the pages may be overwritten: a template of any pool, or a lazy mapping, may
 * still deliver them. Ask after the last descriptor and mapping is gone. On a template it counts
 * the pages of the template, which others of the same pool may use as well.
 *
 * EINVAL      flags; on a pool: the range is not inside it; on a template: a range is given
 */
#define PSEUDO_MM_IOC_STAT	_IO(PSEUDO_MM_IOC_TYPE, 6)

struct pseudo_mm_stat {
	__u32 size;
	__u32 flags;		/* 0 */
	__u64 first_page;	/* in: of the pool; 0 and 0 mean all of it */
	__u64 nr_pages;
	/* out */
	__u64 pages;		/* pages of the pool, or of the template's extents */
	__u64 owned_pages;	/* of those: copies that the pool owns */
	__u64 live_references;
	__u64 templates;	/* of the pool; 1 on a template */
	/* out, templates only */
	__u64 extents;
	__u64 pages_shared;	/* by kind */
	__u64 pages_copied;
	__u64 pages_lazy;
	__u64 lazy_regions;
	__u64 lazy_faults;
	__u64 lazy_delivered;	/* pages */
	__u64 attaches;
	__u64 failed_attaches;
	__u64 attach_ns_total;	/* of successful ones */
	__u64 attach_ns_max;
};

/*
 * mmap() of a sealed template (MAP_PRIVATE; offset = address, whatever address the mapping has)
 * gives memory whose pages are delivered at the first touch: those of extents, and zeros between
 * them. Each address is delivered once: MADV_DONTNEED after that gives zeros, in children of fork
 * too. Such a mapping cannot grow (mremap gives EFAULT).
 *
 * EINVAL      MAP_SHARED
 * EBADFD      the template is not sealed
 *
 * A child of fork for which the record of delivered pages could not be copied (no memory) gets
 * SIGBUS on its first fault in the region.
 */

#endif /* _UAPI_LINUX_PSEUDO_MM_H */
