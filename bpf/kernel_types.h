/* SPDX-License-Identifier: GPL-2.0-only */
/* The few fields of kernel structures that the programs read. Their offsets are those of the running
 * kernel (CO-RE): the order and the sizes here mean nothing, and no vmlinux.h is needed.
 * Arrays of several dimensions are flat in BTF and must be declared so. */
#ifndef MEMPLATE_BPF_KERNEL_TYPES_H
#define MEMPLATE_BPF_KERNEL_TYPES_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

typedef __s64 s64;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

enum cgroup_subsys_id { memory_cgrp_id = 4 };

struct cgroup;
struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct kernfs_node *kn;
	struct cgroup_subsys_state *subsys[16];
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
};

typedef struct {
	s64 counter;
} atomic_long_t;

typedef struct {
	int counter;
} atomic_t;

struct page_counter {
	atomic_long_t usage;
	unsigned long watermark;
	struct page_counter *parent;
};

struct lru_gen_folio {
	unsigned long max_seq;
	long nr_pages[40]; /* generation × type × zone */
};

struct lruvec {
	struct lru_gen_folio lrugen;
};

struct mem_cgroup_per_node {
	struct lruvec lruvec;
	unsigned long lru_zone_size[25]; /* zone × list */
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	struct mem_cgroup_per_node *nodeinfo[];
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[];
};

struct signal_struct {
	atomic_t live;
	unsigned int flags;
	int group_exit_code;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct file;
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct mm_struct;
struct task_struct {
	int pid;
	int tgid;
	int exit_code;
	char comm[16];
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct mm_struct *mm;
	struct files_struct *files;
	unsigned int in_iowait : 1;
};

struct linux_binprm {
	const char *filename;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__u16 skc_num;
	possible_net_t skc_net;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
};

struct file {
	struct inode *f_inode;
	struct path f_path;
};

struct vm_area_struct {
	struct file *vm_file;
};

typedef struct {
	unsigned long pte;
} pte_t;

struct vm_fault {
	struct vm_area_struct *vma;
	pte_t *pte;
	pte_t orig_pte;
};

struct bpf_iter_meta;
struct bpf_iter__cgroup {
	struct bpf_iter_meta *meta;
	struct cgroup *cgroup;
};

#pragma clang attribute pop

#endif
