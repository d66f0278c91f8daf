/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MEMPLATE_BPF_MEMORY_H
#define MEMPLATE_BPF_MEMORY_H

#include "common.bpf.h"

#define MAX_NODES 64
#define MAX_ZONES 8
#define LRU_LISTS 5
#define LRU_INACTIVE_FILE 2
#define GENERATIONS 4
#define TYPES 2
#define TYPE_FILE 1

static __always_inline long classic_inactive_file(struct mem_cgroup_per_node *node)
{
	int zones = bpf_core_field_size(node->lru_zone_size) / (LRU_LISTS * sizeof(long));
	long sum = 0;

	for (int zone = 0; zone < MAX_ZONES && zone < zones; zone++) {
		long pages = 0;

		bpf_core_read(&pages, sizeof(pages),
			      &node->lru_zone_size[zone * LRU_LISTS + LRU_INACTIVE_FILE]);
		sum += pages;
	}
	return sum;
}

/* The two youngest generations count as active. */
static __always_inline long generations_inactive_file(struct mem_cgroup_per_node *node)
{
	int zones = bpf_core_field_size(node->lruvec.lrugen.nr_pages) /
		    (GENERATIONS * TYPES * sizeof(long));
	unsigned long youngest = 0;
	long sum = 0;

	bpf_core_read(&youngest, sizeof(youngest), &node->lruvec.lrugen.max_seq);
	for (unsigned long age = 2; age < GENERATIONS; age++) {
		int first = ((youngest - age) % GENERATIONS * TYPES + TYPE_FILE) * zones;

		for (int zone = 0; zone < MAX_ZONES && zone < zones; zone++) {
			long pages = 0;

			bpf_core_read(&pages, sizeof(pages),
				      &node->lruvec.lrugen.nr_pages[first + zone]);
			sum += pages;
		}
	}
	return sum;
}

/* What memory.stat calls inactive_file, but of this cgroup alone. */
static __always_inline __u64 inactive_file_of(struct mem_cgroup *memory)
{
	long sum = 0;

	for (__u32 n = 0; n < MAX_NODES && n < settings.nodes; n++) {
		struct mem_cgroup_per_node *node = NULL;

		bpf_core_read(&node, sizeof(node), &memory->nodeinfo[n]);
		if (!node)
			continue;
		sum += settings.lru_gen ? generations_inactive_file(node) :
					  classic_inactive_file(node);
	}
	return sum > 0 ? pages_to_bytes(sum) : 0;
}

#endif
