// SPDX-License-Identifier: GPL-2.0-only
/*
 * pseudo_mm: the device, module parameters, and what every ioctl shares.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

unsigned int pmm_max_pools = 4096;
module_param_named(max_pools, pmm_max_pools, uint, 0644);
MODULE_PARM_DESC(max_pools, "Most pools at a time, lingering ones included");

unsigned int pmm_max_templates = 65536;
module_param_named(max_templates, pmm_max_templates, uint, 0644);
MODULE_PARM_DESC(max_templates, "Most templates at a time");

unsigned int pmm_max_extents = 4194304;
module_param_named(max_extents, pmm_max_extents, uint, 0644);
MODULE_PARM_DESC(max_extents, "Most extents of one template");

unsigned long pmm_max_pool_pages = 1UL << 28;
module_param_named(max_pool_pages, pmm_max_pool_pages, ulong, 0644);
MODULE_PARM_DESC(max_pool_pages, "Most 4 KiB pages pinned or owned by all pools together");

unsigned int pmm_fault_around_pages = 16;
module_param_named(fault_around_pages, pmm_fault_around_pages, uint, 0644);
MODULE_PARM_DESC(fault_around_pages, "Most pages that one lazy fault delivers (1 to 512)");

struct pmm_registry pmm_registry = {
	.lock = __MUTEX_INITIALIZER(pmm_registry.lock),
	.pools = LIST_HEAD_INIT(pmm_registry.pools),
	.templates = LIST_HEAD_INIT(pmm_registry.templates),
	.lingering = LIST_HEAD_INIT(pmm_registry.lingering),
};

/* Nothing is added that does not fit: others would be refused for it. */
bool pmm_charge(atomic_long_t *counter, unsigned long nr, unsigned long limit)
{
	long sum = atomic_long_read(counter);

	do {
		if (nr > limit || sum > limit - nr)
			return false;
	} while (!atomic_long_try_cmpxchg(counter, &sum, sum + nr));
	return true;
}

int pmm_get_argument(void *argument, size_t size, size_t min, const void __user *from)
{
	u32 given;

	if (get_user(given, (const u32 __user *)from))
		return -EFAULT;
	if (given < min)
		return -EINVAL;
	if (given > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(argument, size, from, given);
}

int pmm_put_result(const void *result, size_t size, void __user *to)
{
	u32 given = *(const u32 *)result;

	return copy_to_user(to, result, min_t(size_t, given, size)) ? -EFAULT : 0;
}

static int device_info(void __user *to)
{
	struct pseudo_mm_info info;
	int ret;

	ret = pmm_get_argument(&info, sizeof(info), offsetofend(struct pseudo_mm_info, lazy_faults),
			       to);
	if (ret)
		return ret;
	if (info.flags)
		return -EINVAL;
	info.abi = PSEUDO_MM_ABI;
	info.fault_around_pages = pmm_fault_around();
	info.features = PSEUDO_MM_FEATURE_REMOTE | PSEUDO_MM_FEATURE_LAZY;
	if (PMM_CAN_ZAP)
		info.features |= PSEUDO_MM_FEATURE_ROLLBACK;
	info.lazy_differences = PSEUDO_MM_LAZY_DONTNEED_UNTOUCHED |
				PSEUDO_MM_LAZY_NO_ANONYMOUS_ADVICE |
				PSEUDO_MM_LAZY_CORE_DUMP_PARTIAL;
	if (PMM_ANON_INODES_ARE_NOEXEC)
		info.lazy_differences |= PSEUDO_MM_LAZY_NOT_EXECUTABLE;
	info.max_pools = READ_ONCE(pmm_max_pools);
	info.max_templates = READ_ONCE(pmm_max_templates);
	info.max_extents = READ_ONCE(pmm_max_extents);
	info.max_pool_pages = READ_ONCE(pmm_max_pool_pages);
	info.lingering_pools = atomic_long_read(&pmm_registry.nr_lingering);
	info.pools = atomic_long_read(&pmm_registry.nr_pools);
	info.pools -= min(info.pools, info.lingering_pools);
	info.templates = atomic_long_read(&pmm_registry.nr_templates);
	info.pool_pages = atomic_long_read(&pmm_registry.nr_pages);
	info.lazy_regions = atomic_long_read(&pmm_registry.nr_regions);
	info.attaches = atomic_long_read(&pmm_registry.attaches);
	info.failed_attaches = atomic_long_read(&pmm_registry.failed_attaches);
	info.lazy_faults = atomic_long_read(&pmm_registry.lazy_faults);
	return pmm_put_result(&info, sizeof(info), to);
}

static long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *to = (void __user *)arg;

	switch (cmd) {
	case PSEUDO_MM_IOC_INFO:
		return device_info(to);
	case PSEUDO_MM_IOC_POOL:
		return pmm_pool_create(to);
	}
	return -ENOTTY;
}

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pseudo_mm",
	.fops = &device_fops,
	.mode = 0600,
};

static int __init pseudo_mm_init(void)
{
	int ret;

	pmm_debugfs_init();
	ret = misc_register(&device);
	if (ret) {
		pmm_debugfs_exit();
		pmm_linger_exit();
	}
	return ret;
}

/* Every pool, lingering ones too, holds a reference to the module: none is left here. */
static void __exit pseudo_mm_exit(void)
{
	misc_deregister(&device);
	pmm_debugfs_exit();
	pmm_linger_exit();
}

module_init(pseudo_mm_init);
module_exit(pseudo_mm_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Read-only template pages in the anonymous memory of many processes");
MODULE_VERSION("1");
