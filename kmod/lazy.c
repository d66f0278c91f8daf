// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lazy regions: private mappings of a template that deliver its pages at the first touch.
 *
 * A none entry of such a VMA means one of two things: never touched, or discarded (MADV_DONTNEED).
 * The first must give the template's page, the second zeros, as anonymous memory would. So a region
 * records which pages were delivered. That a page counts as delivered only once its entry is in
 * place, and that nobody can discard it in between unseen, is why the handler inserts entries
 * itself, under the region's lock; it then answers VM_FAULT_NOPAGE. A store faults once more,
 * now on a present page, and is given its copy.
 *
 * VM_MIXEDMAP stays set: such VMAs are never merged, so that one region's VMA cannot be extended
 * over another's pages, and fork copies their page tables even without an anon_vma.
 *
 * Fork gives the child a region of its own with a copy of the record; the parent's faults are shut
 * out meanwhile (mmap_lock for writing, VMA write-locked). Splitting and moving share the region:
 * pages are known by their offset in the template, which is the address they were made for.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/slab.h>

#include "internal.h"
#include "trace.h"

/* A region for what @vma has of pages [first, end) of the template. */
static struct pmm_region *region_create(struct pmm_template *template, struct vm_area_struct *vma,
					unsigned long first, unsigned long end)
{
	struct pmm_region *region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	unsigned long nr;

	if (!region)
		return NULL;
	first = max(first, vma->vm_pgoff);
	end = min(end, vma->vm_pgoff + vma_pages(vma));
	nr = end > first ? end - first : 0;
	region->delivered = kvcalloc(BITS_TO_LONGS(nr), sizeof(long),
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!region->delivered) {
		kfree(region);
		return NULL;
	}
	refcount_set(&region->ref, 1);
	mutex_init(&region->lock);
	region->mm = vma->vm_mm;
	region->template = template;
	region->first = first;
	region->nr = nr;
	atomic_long_inc(&template->regions);
	atomic_long_inc(&pmm_registry.nr_regions);
	return region;
}

static void region_put(struct pmm_region *region)
{
	if (!refcount_dec_and_test(&region->ref))
		return;
	atomic_long_dec(&region->template->regions);
	atomic_long_dec(&pmm_registry.nr_regions);
	kvfree(region->delivered);
	mutex_destroy(&region->lock);
	kfree(region);
}

/* What the parent's VMA had been given; the region may reach beyond that VMA on both sides. */
static void copy_delivered(struct pmm_region *child, const struct pmm_region *parent)
{
	const unsigned long skipped = child->first - parent->first;
	unsigned long from = skipped, end;

	while (from < skipped + child->nr) {
		from = find_next_bit(parent->delivered, skipped + child->nr, from);
		if (from >= skipped + child->nr)
			break;
		end = find_next_zero_bit(parent->delivered, skipped + child->nr, from);
		bitmap_set(child->delivered, from - skipped, end - from);
		from = end;
	}
}

static void lazy_open(struct vm_area_struct *vma)
{
	struct pmm_region *region = vma->vm_private_data;
	struct pmm_region *child;

	if (!region)
		return;
	if (region->mm == vma->vm_mm) {
		refcount_inc(&region->ref);
		return;
	}
	child = region_create(region->template, vma, region->first, region->first + region->nr);
	if (child)
		copy_delivered(child, region);
	else
		pr_warn_ratelimited("no memory for a forked lazy region: SIGBUS on its first fault\n");
	vma->vm_private_data = child;
}

static void lazy_close(struct vm_area_struct *vma)
{
	if (vma->vm_private_data)
		region_put(vma->vm_private_data);
}

/*
 * Inserts what was not delivered yet of pages [from, end), counted from the region's first; adds
 * their number to @delivered.
 */
static int deliver(struct vm_area_struct *vma, struct pmm_region *region, const struct pmm_run *run,
		   unsigned long from, unsigned long end, unsigned long *delivered)
{
	struct page **pages = region->template->pages + run->first;
	const unsigned long run_first = run->addr >> PAGE_SHIFT;
	unsigned long stop;
	int error = 0;

	lockdep_assert_held(&region->lock);
	for (; from < end; from = stop) {
		unsigned long left;
		int ret;

		from = find_next_zero_bit(region->delivered, end, from);
		if (from >= end)
			break;
		stop = find_next_bit(region->delivered, end, from);
		left = stop - from;
		ret = pmm_insert_pages(vma, vma->vm_start +
				       ((region->first + from - vma->vm_pgoff) << PAGE_SHIFT),
				       pages + (region->first + from - run_first), &left);
		bitmap_set(region->delivered, from, stop - from - left);
		*delivered += stop - from - left;
		if (ret == -EBUSY)
			stop -= left - 1;	/* somebody has put a page there: leave it */
		else if (ret)
			error = ret;
		if (error)
			break;
	}
	return error;
}

static vm_fault_t lazy_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct pmm_region *region = vma->vm_private_data;
	unsigned long around, index, low, high, delivered = 0;
	struct pmm_template *template;
	const struct pmm_run *run;
	int ret = 0;

	if (!region)
		return VM_FAULT_SIGBUS;
	template = region->template;
	index = vmf->pgoff - region->first;
	run = index < region->nr ? pmm_find_run(template, vmf->pgoff << PAGE_SHIFT) : NULL;
	if (!run)
		goto zero;

	/* An aligned window, inside the VMA, the region and the run. */
	around = pmm_fault_around();
	low = round_down(vmf->pgoff, around);
	high = low + around;
	low = max3(low, vma->vm_pgoff, max(region->first, run->addr >> PAGE_SHIFT));
	high = min3(high, vma->vm_pgoff + vma_pages(vma),
		    min(region->first + region->nr, (run->addr >> PAGE_SHIFT) + run->nr));

	mutex_lock(&region->lock);
	if (test_bit(index, region->delivered)) {
		mutex_unlock(&region->lock);
		goto zero;
	}
	/* The page itself first: what comes around it is a bonus. */
	ret = deliver(vma, region, run, index, index + 1, &delivered);
	if (!ret)
		deliver(vma, region, run, low - region->first, high - region->first, &delivered);
	mutex_unlock(&region->lock);
	/* EFAULT: the page table went while it was being filled; the fault is taken again. */
	if (ret && ret != -EFAULT)
		return ret == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	atomic_long_inc(&template->lazy_faults);
	atomic_long_add(delivered, &template->lazy_delivered);
	atomic_long_inc(&pmm_registry.lazy_faults);
	trace_pseudo_mm_lazy_fault(vmf->address, delivered);
	return VM_FAULT_NOPAGE;

zero:
	get_page(template->zero);
	vmf->page = template->zero;
	return 0;
}

static const struct vm_operations_struct lazy_vm_ops = {
	.open = lazy_open,
	.close = lazy_close,
	.fault = lazy_fault,
};

struct pmm_region *pmm_region_of(struct vm_area_struct *vma, const struct pmm_template *template)
{
	struct pmm_region *region = vma->vm_private_data;

	if (vma->vm_ops != &lazy_vm_ops || !region || region->template != template ||
	    vma->vm_pgoff != vma->vm_start >> PAGE_SHIFT)
		return NULL;
	return region;
}

void pmm_region_delivered(struct pmm_region *region, unsigned long addr, unsigned long nr)
{
	unsigned long first = addr >> PAGE_SHIFT;
	unsigned long end = min(first + nr, region->first + region->nr);

	mutex_lock(&region->lock);
	if (first >= region->first && first < end)
		bitmap_set(region->delivered, first - region->first, end - first);
	mutex_unlock(&region->lock);
}

int pmm_lazy_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct pmm_template *template = file->private_data;
	const struct pmm_run *last;
	struct pmm_region *region;

	if (vma->vm_flags & (VM_SHARED | VM_MAYSHARE))
		return -EINVAL;
	if (!pmm_is_sealed(template))
		return -EBADFD;
	last = &template->runs[template->nr_runs - 1];
	region = region_create(template, vma, template->runs->addr >> PAGE_SHIFT,
			       (last->addr >> PAGE_SHIFT) + last->nr);
	if (!region)
		return -ENOMEM;
	vma->vm_private_data = region;
	vma->vm_ops = &lazy_vm_ops;
	/* Growth would show pages of other addresses, or deliver one twice. */
	vm_flags_set(vma, VM_MIXEDMAP | VM_DONTEXPAND);
	return 0;
}
