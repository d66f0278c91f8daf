// SPDX-License-Identifier: GPL-2.0-only
/*
 * Templates: collecting extents, sealing, statistics. What they describe is put into processes by
 * attach.c and lazy.c.
 */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "internal.h"

static int check_extents(const struct pmm_template *template,
			 const struct pseudo_mm_extent *extents, u32 nr)
{
	u64 end = 0;
	u32 i;

	if (template->nr_extents) {
		const struct pseudo_mm_extent *last = &template->extents[template->nr_extents - 1];

		end = last->addr + last->nr_pages * PAGE_SIZE;
	}
	for (i = 0; i < nr; i++) {
		const struct pseudo_mm_extent *extent = &extents[i];

		if (extent->pad || extent->kind > PSEUDO_MM_LAZY || !extent->nr_pages ||
		    !PAGE_ALIGNED(extent->addr))
			return -EINVAL;
		if (extent->page >= template->pool->nr_pages ||
		    extent->nr_pages > template->pool->nr_pages - extent->page)
			return -EINVAL;
		/* A pool has far fewer than 2^52 pages: no overflow. */
		if (extent->addr >= TASK_SIZE_MAX ||
		    extent->nr_pages * PAGE_SIZE > TASK_SIZE_MAX - extent->addr)
			return -ERANGE;
		if (extent->addr < end) {
			const struct pseudo_mm_extent *before =
				i ? extent - 1 : &template->extents[template->nr_extents - 1];

			return extent->addr + extent->nr_pages * PAGE_SIZE <= before->addr ?
				       -EINVAL : -EEXIST;
		}
		end = extent->addr + extent->nr_pages * PAGE_SIZE;
	}
	return 0;
}

static int append_extents(struct pmm_template *template, const struct pseudo_mm_extent *extents,
			  u32 nr)
{
	const unsigned int sum = template->nr_extents + nr;
	int ret;

	lockdep_assert_held(&template->lock);
	if (template->sealed)
		return -EROFS;
	ret = check_extents(template, extents, nr);
	if (ret)
		return ret;
	if (sum < nr || sum > READ_ONCE(pmm_max_extents))
		return -ENOSPC;
	if (sum > template->room) {
		const unsigned int room = max3(sum, 2 * template->room, 64U);
		struct pseudo_mm_extent *grown;

		grown = kvmalloc_array(room, sizeof(*grown), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (!grown)
			return -ENOMEM;
		if (template->nr_extents)
			memcpy(grown, template->extents, template->nr_extents * sizeof(*grown));
		kvfree(template->extents);
		template->extents = grown;
		template->room = room;
	}
	memcpy(template->extents + template->nr_extents, extents, nr * sizeof(*extents));
	template->nr_extents = sum;
	return 0;
}

static int template_add(struct pmm_template *template, const void __user *from)
{
	struct pseudo_mm_extent *extents;
	struct pseudo_mm_add argument;
	int ret;

	ret = pmm_get_argument(&argument, sizeof(argument), offsetofend(struct pseudo_mm_add, pad),
			       from);
	if (ret)
		return ret;
	if (argument.flags || argument.pad || !argument.nr_extents ||
	    argument.nr_extents > PSEUDO_MM_MAX_ADD)
		return -EINVAL;
	extents = vmemdup_user(u64_to_user_ptr(argument.extents),
			       array_size(argument.nr_extents, sizeof(*extents)));
	if (IS_ERR(extents))
		return PTR_ERR(extents);
	mutex_lock(&template->lock);
	ret = append_extents(template, extents, argument.nr_extents);
	mutex_unlock(&template->lock);
	kvfree(extents);
	return ret;
}

/* Extents become runs, as long as possible, over one array of pages in the order of addresses. */
static int compile(struct pmm_template *template)
{
	struct page **pool_pages = template->pool->pages;
	unsigned long nr_pages = 0, at = 0, i;
	struct pmm_run *runs, *run = NULL;
	struct page **pages;
	unsigned int e;

	for (e = 0; e < template->nr_extents; e++)
		nr_pages += template->extents[e].nr_pages;
	runs = kvmalloc_array(template->nr_extents, sizeof(*runs),
			      GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	pages = kvmalloc_array(nr_pages, sizeof(*pages), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!runs || !pages) {
		kvfree(runs);
		kvfree(pages);
		return -ENOMEM;
	}
	for (e = 0; e < template->nr_extents; e++) {
		const struct pseudo_mm_extent *extent = &template->extents[e];

		if (!run || run->kind != extent->kind ||
		    run->addr + run->nr * PAGE_SIZE != extent->addr) {
			run = run ? run + 1 : runs;
			*run = (struct pmm_run){ extent->addr, 0, at, extent->kind };
		}
		run->nr += extent->nr_pages;
		template->nr_kind[extent->kind] += extent->nr_pages;
		for (i = 0; i < extent->nr_pages; i++) {
			pages[at++] = pool_pages[extent->page + i];
			if (!(at % 65536))
				cond_resched();
		}
	}
	template->runs = runs;
	template->nr_runs = run - runs + 1;
	template->pages = pages;
	template->nr_pages = nr_pages;
	kvfree(template->extents);
	template->extents = NULL;
	return 0;
}

static int template_seal(struct pmm_template *template, const void __user *from)
{
	struct pseudo_mm_seal argument;
	int ret;

	ret = pmm_get_argument(&argument, sizeof(argument),
			       offsetofend(struct pseudo_mm_seal, flags), from);
	if (ret)
		return ret;
	if (argument.flags)
		return -EINVAL;
	mutex_lock(&template->lock);
	if (template->sealed)
		ret = -EROFS;
	else if (!template->nr_extents)
		ret = -EINVAL;
	else
		ret = compile(template);
	if (!ret)
		/* Pairs with the acquire in the users: they see the runs. */
		smp_store_release(&template->sealed, true);
	mutex_unlock(&template->lock);
	return ret;
}

static int template_stat(struct pmm_template *template, void __user *to)
{
	struct pseudo_mm_stat stat;
	unsigned long i;
	int ret;

	ret = pmm_get_argument(&stat, sizeof(stat),
			       offsetofend(struct pseudo_mm_stat, attach_ns_max), to);
	if (ret)
		return ret;
	if (stat.flags || stat.first_page || stat.nr_pages)
		return -EINVAL;
	memset_after(&stat, 0, nr_pages);
	stat.templates = 1;
	mutex_lock(&template->lock);
	stat.extents = template->nr_extents;
	mutex_unlock(&template->lock);
	if (pmm_is_sealed(template)) {
		stat.pages = template->nr_pages;
		stat.owned_pages = template->pool->source == PMM_OWNED ? stat.pages : 0;
		stat.pages_shared = template->nr_kind[PSEUDO_MM_SHARED];
		stat.pages_copied = template->nr_kind[PSEUDO_MM_COPIED];
		stat.pages_lazy = template->nr_kind[PSEUDO_MM_LAZY];
		for (i = 0; i < template->nr_pages; i++) {
			stat.live_references += pmm_live_references(template->pool,
								    template->pages[i]);
			if (!(i % 4096))
				cond_resched();
		}
	}
	stat.lazy_regions = atomic_long_read(&template->regions);
	stat.lazy_faults = atomic_long_read(&template->lazy_faults);
	stat.lazy_delivered = atomic_long_read(&template->lazy_delivered);
	stat.attaches = atomic_long_read(&template->attaches);
	stat.failed_attaches = atomic_long_read(&template->failed_attaches);
	stat.attach_ns_total = atomic64_read(&template->attach_ns_total);
	stat.attach_ns_max = atomic64_read(&template->attach_ns_max);
	return pmm_put_result(&stat, sizeof(stat), to);
}

const struct pmm_run *pmm_find_run(const struct pmm_template *template, unsigned long addr)
{
	unsigned int low = 0, high = template->nr_runs;

	while (low < high) {
		const unsigned int middle = low + (high - low) / 2;
		const struct pmm_run *run = &template->runs[middle];

		if (addr < run->addr)
			high = middle;
		else if (addr - run->addr >= run->nr * PAGE_SIZE)
			low = middle + 1;
		else
			return run;
	}
	return NULL;
}

static long template_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct pmm_template *template = file->private_data;
	void __user *to = (void __user *)arg;

	switch (cmd) {
	case PSEUDO_MM_IOC_ADD:
		return template_add(template, to);
	case PSEUDO_MM_IOC_SEAL:
		return template_seal(template, to);
	case PSEUDO_MM_IOC_ATTACH:
		return pmm_attach(template, to);
	case PSEUDO_MM_IOC_STAT:
		return template_stat(template, to);
	}
	return -ENOTTY;
}

static void template_free(struct pmm_template *template)
{
	mutex_lock(&pmm_registry.lock);
	list_del(&template->node);
	mutex_unlock(&pmm_registry.lock);
	kvfree(template->extents);
	kvfree(template->runs);
	kvfree(template->pages);
	put_page(template->zero);
	atomic_long_dec(&template->pool->nr_templates);
	pmm_pool_put(template->pool);
	mutex_destroy(&template->lock);
	kfree(template);
	atomic_long_dec(&pmm_registry.nr_templates);
}

static int template_release(struct inode *inode, struct file *file)
{
	template_free(file->private_data);
	return 0;
}

const struct file_operations pmm_template_fops = {
	.owner = THIS_MODULE,
	.release = template_release,
	.unlocked_ioctl = template_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = pmm_lazy_mmap,
	.llseek = noop_llseek,
};

int pmm_template_create(struct pmm_pool *pool, const void __user *from)
{
	struct pseudo_mm_template argument;
	struct pmm_template *template;
	int ret;

	ret = pmm_get_argument(&argument, sizeof(argument),
			       offsetofend(struct pseudo_mm_template, flags), from);
	if (ret)
		return ret;
	if (argument.flags)
		return -EINVAL;
	if (!pmm_charge(&pmm_registry.nr_templates, 1, READ_ONCE(pmm_max_templates)))
		return -ENOSPC;
	ret = -ENOMEM;
	template = kzalloc(sizeof(*template), GFP_KERNEL_ACCOUNT);
	if (!template)
		goto uncharge;
	template->zero = alloc_page(GFP_HIGHUSER | __GFP_ZERO | __GFP_ACCOUNT);
	if (!template->zero)
		goto free;
	mutex_init(&template->lock);
	kref_get(&pool->ref);
	atomic_long_inc(&pool->nr_templates);
	WRITE_ONCE(pool->used, true);
	template->pool = pool;
	mutex_lock(&pmm_registry.lock);
	list_add_tail(&template->node, &pmm_registry.templates);
	mutex_unlock(&pmm_registry.lock);

	/* Readable and writable: private mappings need the one, MAP_SHARED must not be weakened. */
	ret = anon_inode_getfd("[pseudo_mm_template]", &pmm_template_fops, template,
			       O_RDWR | O_CLOEXEC);
	if (ret < 0)
		template_free(template);
	return ret;

free:
	kfree(template);
uncharge:
	atomic_long_dec(&pmm_registry.nr_templates);
	return ret;
}
