// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/pseudo_mm: pools and templates, for people.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "internal.h"

static struct dentry *directory;

static const char *const source_names[] = {
	[PMM_OWNED] = "owned",
	[PMM_DEVICE] = "device",
	[PMM_SHMEM] = "memfd",
};

static void show_pools(struct seq_file *file, struct list_head *list, const char *state)
{
	struct pmm_pool *pool;

	list_for_each_entry(pool, list, node)
		seq_printf(file, "%pK %-8s %-8s %12lu %10ld\n", pool, state,
			   source_names[pool->source], pool->nr_pages,
			   atomic_long_read(&pool->nr_templates));
}

static int pools_show(struct seq_file *file, void *unused)
{
	seq_puts(file, "pool             state    source          pages  templates\n");
	mutex_lock(&pmm_registry.lock);
	show_pools(file, &pmm_registry.pools, "used");
	show_pools(file, &pmm_registry.lingering, "lingers");
	mutex_unlock(&pmm_registry.lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(pools);

static int templates_show(struct seq_file *file, void *unused)
{
	struct pmm_template *template;

	seq_puts(file, "pool             sealed     shared     copied       lazy   attaches     failed    regions     faults\n");
	mutex_lock(&pmm_registry.lock);
	list_for_each_entry(template, &pmm_registry.templates, node)
		seq_printf(file, "%pK %-6s %10lu %10lu %10lu %10ld %10ld %10ld %10ld\n",
			   template->pool, pmm_is_sealed(template) ? "yes" : "no",
			   template->nr_kind[PSEUDO_MM_SHARED],
			   template->nr_kind[PSEUDO_MM_COPIED],
			   template->nr_kind[PSEUDO_MM_LAZY],
			   atomic_long_read(&template->attaches),
			   atomic_long_read(&template->failed_attaches),
			   atomic_long_read(&template->regions),
			   atomic_long_read(&template->lazy_faults));
	mutex_unlock(&pmm_registry.lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(templates);

/* Failing to make these files is no failure of the module: debugfs's own rule. */
void pmm_debugfs_init(void)
{
	directory = debugfs_create_dir("pseudo_mm", NULL);
	debugfs_create_file("pools", 0400, directory, NULL, &pools_fops);
	debugfs_create_file("templates", 0400, directory, NULL, &templates_fops);
}

void pmm_debugfs_exit(void)
{
	debugfs_remove(directory);
}
