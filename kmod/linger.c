// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of pools. Attached pages sit in anonymous memory, which keeps no file open: a pool may
 * lose its last descriptor, and its maker may die, while processes still use its pages. Such a pool
 * lingers, with what its pages come from, until the last use is over. Nothing announces that, so a
 * worker looks.
 *
 * When a page is out of use:
 *   owned   only the pool's own reference is left
 *   device  the page is as idle as the driver left it; the page map alone keeps the device.
 *   memfd   no page table maps it, not even one of its own file's mappings. References of I/O may
 *           outlast a file anywhere.
 * A page out of use stays so: the pool has no descriptor through which it could be attached again.
 * The pages of a pool that never had a template are not looked at.
 */
#include <linux/file.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "internal.h"
#include "trace.h"

#define LINGER_INTERVAL		(HZ / 10)
/* Pages found in use in one round, for each pool. */
#define LINGER_BATCH		4096UL

static void linger_worker(struct work_struct *work);
static DECLARE_DELAYED_WORK(linger_work, linger_worker);

static bool settle_page(struct pmm_pool *pool, struct page *page)
{
	switch (pool->source) {
	case PMM_OWNED:
		if (pool->used && page_ref_count(page) != 1)
			return false;
		put_page(page);
		return true;
	case PMM_DEVICE:
		return !pool->used ||
		       folio_ref_count(page_folio(page)) == PMM_DEVICE_IDLE_REFS;
	case PMM_SHMEM:
		if (pool->used && pmm_page_mappings(page))
			return false;
		unpin_user_page(page);
		return true;
	}
	return true;
}

/*
 * Drops pages out of use until it has met @nr that are not, or looked at all of them; true when
 * nothing is left.
 */
static bool settle(struct pmm_pool *pool, unsigned long nr)
{
	const unsigned long all = pool->nr_pages;
	unsigned long looked = 0;

	while (nr && looked < all) {
		struct page **page;

		if (pool->cursor >= pool->nr_pages)
			pool->cursor = 0;
		page = &pool->pages[pool->cursor];
		if (settle_page(pool, *page)) {
			*page = pool->pages[--pool->nr_pages];
		} else {
			pool->cursor++;
			nr--;
		}
		if (!(++looked % 1024))
			cond_resched();
	}
	return !pool->nr_pages;
}

static void free_pool(struct pmm_pool *pool, unsigned long nr_pages)
{
	unsigned int i;

	trace_pseudo_mm_pool(pool, "freed", nr_pages);
	for (i = 0; i < pool->nr_holds; i++) {
		if (pool->source == PMM_SHMEM)
			fput(pool->holds[i]);
		else
			put_dev_pagemap(pool->holds[i]);
	}
	kvfree(pool->holds);
	kvfree(pool->pages);
	kfree(pool);
	atomic_long_sub(nr_pages, &pmm_registry.nr_pages);
	atomic_long_dec(&pmm_registry.nr_pools);
	module_put(THIS_MODULE);
}

void pmm_pool_release(struct pmm_pool *pool)
{
	const unsigned long nr_pages = pool->nr_pages;

	if (settle(pool, nr_pages)) {
		mutex_lock(&pmm_registry.lock);
		list_del(&pool->node);
		mutex_unlock(&pmm_registry.lock);
		free_pool(pool, nr_pages);
		return;
	}
	trace_pseudo_mm_pool(pool, "lingers", pool->nr_pages);
	/* What has been settled is not the pool's any more. */
	atomic_long_sub(nr_pages - pool->nr_pages, &pmm_registry.nr_pages);
	atomic_long_inc(&pmm_registry.nr_lingering);
	mutex_lock(&pmm_registry.lock);
	list_move_tail(&pool->node, &pmm_registry.lingering);
	mutex_unlock(&pmm_registry.lock);
	queue_delayed_work(system_unbound_wq, &linger_work, LINGER_INTERVAL);
}

static void linger_worker(struct work_struct *work)
{
	struct pmm_pool *pool, *next;
	LIST_HEAD(done);
	bool more;

	mutex_lock(&pmm_registry.lock);
	list_for_each_entry_safe(pool, next, &pmm_registry.lingering, node) {
		const unsigned long before = pool->nr_pages;

		if (settle(pool, LINGER_BATCH))
			list_move(&pool->node, &done);
		atomic_long_sub(before - pool->nr_pages, &pmm_registry.nr_pages);
	}
	more = !list_empty(&pmm_registry.lingering);
	mutex_unlock(&pmm_registry.lock);

	/* Before free_pool(): the module may go once the last pool has. */
	if (more)
		queue_delayed_work(system_unbound_wq, &linger_work, LINGER_INTERVAL);
	list_for_each_entry_safe(pool, next, &done, node) {
		atomic_long_dec(&pmm_registry.nr_lingering);
		free_pool(pool, 0);
	}
}

void pmm_linger_exit(void)
{
	cancel_delayed_work_sync(&linger_work);
}
