// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pools: making them of the caller's memory.
 *
 * Pinned pages belong to somebody else, who must not be able to take them away while they are in
 * processes that their owner knows nothing of: a device is held by its page map, a memfd by its
 * file and by seals that forbid truncation and holes. (Truncation of attached pages would find them
 * mapped where no reverse mapping leads, and break their counters.) Pages of a device stay where
 * they are as long as the page map is held, so that their pins are given up at once: the reference
 * count of a page then says who uses it, however many pools share the device.
 */
#include <linux/anon_inodes.h>
#include <linux/dax.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <uapi/linux/fcntl.h>

#include "internal.h"
#include "trace.h"

#define PIN_BATCH 1024UL

/* Room for one more of the things that keep pages in existence. */
static int grow_holds(struct pmm_pool *pool)
{
	void **grown;

	if (pool->nr_holds && !is_power_of_2(pool->nr_holds))
		return 0;
	grown = kvmalloc_array(max(2 * pool->nr_holds, 1U), sizeof(*grown), GFP_KERNEL_ACCOUNT);
	if (!grown)
		return -ENOMEM;
	if (pool->nr_holds)
		memcpy(grown, pool->holds, pool->nr_holds * sizeof(*grown));
	kvfree(pool->holds);
	pool->holds = grown;
	return 0;
}

static void *last_hold(struct pmm_pool *pool)
{
	return pool->nr_holds ? pool->holds[pool->nr_holds - 1] : NULL;
}

static int hold_file(struct pmm_pool *pool, struct file *file)
{
	if (last_hold(pool) == file)
		return 0;
	if (grow_holds(pool))
		return -ENOMEM;
	pool->holds[pool->nr_holds++] = get_file(file);
	return 0;
}

static bool pgmap_contains(const struct dev_pagemap *pgmap, unsigned long pfn)
{
	int i;

	for (i = 0; i < pgmap->nr_range; i++) {
		const struct range *range = &pgmap->ranges[i];

		if (pfn >= PHYS_PFN(range->start) && pfn <= PHYS_PFN(range->end))
			return true;
	}
	return false;
}

/*
 * By number: until the page map is held, a pin does not keep a device from taking its struct pages
 * away. -ENODEV: it has done so.
 */
static int hold_device(struct pmm_pool *pool, unsigned long pfn)
{
	struct dev_pagemap *pgmap = last_hold(pool);

	if (pgmap && pgmap_contains(pgmap, pfn))
		return 0;
	if (grow_holds(pool))
		return -ENOMEM;
	pgmap = pmm_get_pgmap(pfn);
	if (!pgmap)
		return -ENODEV;
	pool->holds[pool->nr_holds++] = pgmap;
	return pgmap->type == MEMORY_DEVICE_GENERIC ? 0 : -EOPNOTSUPP;
}

static int source_of(struct vm_area_struct *vma, enum pmm_source *source)
{
	const unsigned int no_write = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
	struct file *file = vma->vm_file;
	struct inode *inode;
	unsigned int seals;

	if (!file || !(vma->vm_flags & VM_MAYSHARE) || is_vm_hugetlb_page(vma) ||
	    (vma->vm_flags & (VM_IO | VM_PFNMAP)))
		return -EOPNOTSUPP;
	inode = file_inode(file);
	if (S_ISCHR(inode->i_mode) && IS_DAX(file->f_mapping->host)) {
		*source = PMM_DEVICE;
		return 0;
	}
	if (!S_ISREG(inode->i_mode) || inode->i_sb->s_magic != TMPFS_MAGIC)
		return -EOPNOTSUPP;
	*source = PMM_SHMEM;
	seals = READ_ONCE(SHMEM_I(inode)->seals);
	return (seals & F_SEAL_SHRINK) && (seals & no_write) ? 0 : -EPERM;
}

static int check_pinned(struct pmm_pool *pool, struct page *page)
{
	int ret;

	if (pool->source == PMM_DEVICE) {
		ret = hold_device(pool, page_to_pfn(page));
		if (ret)
			return ret;
	} else if (PageAnon(page) || PageHuge(page) || PageSlab(page) ||
		   is_zone_device_page(page) || (PMM_NO_PAGE_MAPCOUNT && PageCompound(page))) {
		return -EOPNOTSUPP;
	}
	return PageHWPoison(page) ? -EIO : 0;
}

/* Pins at most a batch, all of one VMA; returns how many pages. */
static long pin_some(struct pmm_pool *pool, unsigned long at, unsigned long addr, unsigned long nr)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	enum pmm_source source;
	long pinned, i;
	int ret;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	vma = vma_lookup(mm, addr);
	if (!vma) {
		pinned = -EFAULT;
		goto unlock;
	}
	ret = source_of(vma, &source);
	if (!ret && at && source != pool->source)
		ret = -EOPNOTSUPP;
	if (!ret && source == PMM_SHMEM)
		ret = hold_file(pool, vma->vm_file);
	if (ret) {
		pinned = ret;
		goto unlock;
	}
	pool->source = source;
	nr = min3(nr, PIN_BATCH, (vma->vm_end - addr) >> PAGE_SHIFT);
	pinned = pmm_pin_shared(addr, nr, pool->pages + at);
unlock:
	mmap_read_unlock(mm);
	if (pinned == -EHWPOISON)
		return -EIO;
	if (pinned == -ERESTARTSYS)
		return -EINTR;
	if (pinned <= 0)
		return pinned ?: -EFAULT;
	for (i = 0; i < pinned; i++) {
		ret = check_pinned(pool, pool->pages[at + i]);
		if (ret) {
			if (ret != -ENODEV)
				unpin_user_pages(pool->pages + at, pinned);
			return ret == -ENODEV ? -EOPNOTSUPP : ret;
		}
	}
	if (pool->source == PMM_DEVICE)
		unpin_user_pages(pool->pages + at, pinned);
	return pinned;
}

static long copy_some(struct pmm_pool *pool, unsigned long at, unsigned long addr, unsigned long nr)
{
	unsigned long i;

	nr = min(nr, 64UL);
	for (i = 0; i < nr; i++) {
		struct page *page = alloc_page(GFP_HIGHUSER | __GFP_ACCOUNT);
		unsigned long missing;
		void *to;

		if (!page)
			return -ENOMEM;
		/* Counted at once: the caller frees pages [0, nr_pages) on failure. */
		pool->pages[at + i] = page;
		pool->nr_pages++;
		to = kmap_local_page(page);
		missing = copy_from_user(to, (const void __user *)addr + i * PAGE_SIZE, PAGE_SIZE);
		kunmap_local(to);
		if (missing)
			return -EFAULT;
	}
	return nr;
}

static int fill_pool(struct pmm_pool *pool, const struct pseudo_mm_range *ranges, u32 nr_ranges,
		     bool copy)
{
	u32 i;

	for (i = 0; i < nr_ranges; i++) {
		unsigned long addr = ranges[i].addr;
		unsigned long left = ranges[i].len >> PAGE_SHIFT;

		while (left) {
			long got;

			if (fatal_signal_pending(current))
				return -EINTR;
			if (copy) {
				got = copy_some(pool, pool->nr_pages, addr, left);
			} else {
				got = pin_some(pool, pool->nr_pages, addr, left);
				if (got > 0)
					pool->nr_pages += got;
			}
			if (got < 0)
				return got;
			addr += got << PAGE_SHIFT;
			left -= got;
			cond_resched();
		}
	}
	return 0;
}

static int check_ranges(const struct pseudo_mm_range *ranges, u32 nr_ranges,
			unsigned long *nr_pages)
{
	unsigned long sum = 0;
	u32 i;

	for (i = 0; i < nr_ranges; i++) {
		const struct pseudo_mm_range *range = &ranges[i];

		if (!range->len || !PAGE_ALIGNED(range->addr | range->len))
			return -EINVAL;
		if (range->addr >= TASK_SIZE || range->len > TASK_SIZE - range->addr)
			return -EFAULT;
		/* At most 2^20 ranges of less than 2^45 pages each cannot overflow. */
		sum += range->len >> PAGE_SHIFT;
	}
	*nr_pages = sum;
	return 0;
}

/*
 * References of a large page are those of all its pages together. Looked at before and after the
 * mappings are counted, so that one that comes or goes is not taken for what it hides.
 */
static bool large_page_is_held(struct folio *folio)
{
	const int before = folio_ref_count(folio);
	long mappings = 0, i;

	if (before == PMM_DEVICE_IDLE_REFS)
		return false;
	for (i = 0; i < folio_nr_pages(folio); i++)
		mappings += pmm_page_mappings(folio_page(folio, i));
	return max(before, folio_ref_count(folio)) > PMM_DEVICE_IDLE_REFS + mappings;
}

unsigned long pmm_live_references(const struct pmm_pool *pool, struct page *page)
{
	unsigned long mappings, references;

	if (pool->source == PMM_OWNED)
		return page_ref_count(page) - 1;
	mappings = pmm_page_mappings(page);
	/* A memfd's page has references that are nobody's here. */
	if (pool->source == PMM_SHMEM)
		return mappings;
	if (PageCompound(page))
		return mappings ?: large_page_is_held(page_folio(page));
	references = page_ref_count(page) - PMM_DEVICE_IDLE_REFS;
	if (references <= mappings)
		return mappings;
	/* I/O that pins a page adds the bias. */
	references -= mappings;
	return mappings + references / GUP_PIN_COUNTING_BIAS + references % GUP_PIN_COUNTING_BIAS;
}

static int pool_stat(struct pmm_pool *pool, void __user *to)
{
	struct pseudo_mm_stat stat;
	unsigned long i;
	int ret;

	ret = pmm_get_argument(&stat, sizeof(stat),
			       offsetofend(struct pseudo_mm_stat, attach_ns_max), to);
	if (ret)
		return ret;
	if (!stat.first_page && !stat.nr_pages)
		stat.nr_pages = pool->nr_pages;
	if (stat.flags || !stat.nr_pages || stat.first_page >= pool->nr_pages ||
	    stat.nr_pages > pool->nr_pages - stat.first_page)
		return -EINVAL;
	memset_after(&stat, 0, nr_pages);
	stat.pages = stat.nr_pages;
	stat.owned_pages = pool->source == PMM_OWNED ? stat.nr_pages : 0;
	stat.templates = atomic_long_read(&pool->nr_templates);
	for (i = 0; i < stat.nr_pages; i++) {
		stat.live_references += pmm_live_references(pool, pool->pages[stat.first_page + i]);
		if (!(i % 4096))
			cond_resched();
	}
	return pmm_put_result(&stat, sizeof(stat), to);
}

static long pool_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct pmm_pool *pool = file->private_data;
	void __user *to = (void __user *)arg;

	switch (cmd) {
	case PSEUDO_MM_IOC_TEMPLATE:
		return pmm_template_create(pool, to);
	case PSEUDO_MM_IOC_STAT:
		return pool_stat(pool, to);
	}
	return -ENOTTY;
}

static void last_reference(struct kref *ref)
{
	pmm_pool_release(container_of(ref, struct pmm_pool, ref));
}

void pmm_pool_put(struct pmm_pool *pool)
{
	kref_put(&pool->ref, last_reference);
}

static int pool_release(struct inode *inode, struct file *file)
{
	pmm_pool_put(file->private_data);
	return 0;
}

static const struct file_operations pool_fops = {
	.owner = THIS_MODULE,
	.release = pool_release,
	.unlocked_ioctl = pool_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct pmm_pool *make_pool(const struct pseudo_mm_range *ranges, u32 nr_ranges, bool copy)
{
	struct pmm_pool *pool;
	unsigned long nr_pages;
	int ret;

	ret = check_ranges(ranges, nr_ranges, &nr_pages);
	if (ret)
		return ERR_PTR(ret);
	if (!pmm_charge(&pmm_registry.nr_pages, nr_pages, READ_ONCE(pmm_max_pool_pages)))
		return ERR_PTR(-ENOSPC);
	ret = -ENOSPC;
	if (!pmm_charge(&pmm_registry.nr_pools, 1, READ_ONCE(pmm_max_pools)))
		goto uncharge_pages;
	ret = -ENOMEM;
	pool = kzalloc(sizeof(*pool), GFP_KERNEL_ACCOUNT);
	if (!pool)
		goto uncharge_pool;
	kref_init(&pool->ref);
	pool->source = PMM_OWNED;
	/* Above INT_MAX bytes kvmalloc() fails: 1 TiB and more in one pool. */
	pool->pages = kvmalloc_array(nr_pages, sizeof(*pool->pages),
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!pool->pages)
		goto free_pool;
	__module_get(THIS_MODULE);
	mutex_lock(&pmm_registry.lock);
	list_add_tail(&pool->node, &pmm_registry.pools);
	mutex_unlock(&pmm_registry.lock);

	ret = fill_pool(pool, ranges, nr_ranges, copy);
	/* A part of a pool was charged in full: what was not filled goes back now. */
	atomic_long_sub(nr_pages - pool->nr_pages, &pmm_registry.nr_pages);
	if (ret) {
		pmm_pool_put(pool);
		return ERR_PTR(ret);
	}
	return pool;

free_pool:
	kfree(pool);
uncharge_pool:
	atomic_long_dec(&pmm_registry.nr_pools);
uncharge_pages:
	atomic_long_sub(nr_pages, &pmm_registry.nr_pages);
	return ERR_PTR(ret);
}

int pmm_pool_create(const void __user *from)
{
	struct pseudo_mm_range *ranges;
	struct pseudo_mm_pool argument;
	struct pmm_pool *pool;
	int ret;

	ret = pmm_get_argument(&argument, sizeof(argument), offsetofend(struct pseudo_mm_pool, pad),
			       from);
	if (ret)
		return ret;
	if ((argument.flags & ~PSEUDO_MM_POOL_COPY) || argument.pad || !argument.nr_ranges ||
	    argument.nr_ranges > PSEUDO_MM_MAX_RANGES)
		return -EINVAL;
	if (!capable(CAP_IPC_LOCK))
		return -EPERM;
	ranges = vmemdup_user(u64_to_user_ptr(argument.ranges),
			      array_size(argument.nr_ranges, sizeof(*ranges)));
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	pool = make_pool(ranges, argument.nr_ranges, argument.flags & PSEUDO_MM_POOL_COPY);
	kvfree(ranges);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	trace_pseudo_mm_pool(pool, "made", pool->nr_pages);
	ret = anon_inode_getfd("[pseudo_mm_pool]", &pool_fops, pool, O_RDWR | O_CLOEXEC);
	if (ret < 0)
		pmm_pool_put(pool);
	return ret;
}
