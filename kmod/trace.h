/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pseudo_mm

#if !defined(PSEUDO_MM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define PSEUDO_MM_TRACE_H

#include <linux/tracepoint.h>

/* An ATTACH has ended. @ret: 0 or a negative errno. */
TRACE_EVENT(pseudo_mm_attach,
	TP_PROTO(pid_t pid, u64 shared, u64 copied, u64 nanoseconds, int ret),
	TP_ARGS(pid, shared, copied, nanoseconds, ret),
	TP_STRUCT__entry(
		__field(pid_t, pid)
		__field(u64, shared)
		__field(u64, copied)
		__field(u64, nanoseconds)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->pid = pid;
		__entry->shared = shared;
		__entry->copied = copied;
		__entry->nanoseconds = nanoseconds;
		__entry->ret = ret;
	),
	TP_printk("pid=%d shared=%llu copied=%llu nanoseconds=%llu ret=%d", __entry->pid,
		  __entry->shared, __entry->copied, __entry->nanoseconds, __entry->ret)
);

/* A first touch delivered @pages around @addr. */
TRACE_EVENT(pseudo_mm_lazy_fault,
	TP_PROTO(unsigned long addr, unsigned long pages),
	TP_ARGS(addr, pages),
	TP_STRUCT__entry(
		__field(unsigned long, addr)
		__field(unsigned long, pages)
	),
	TP_fast_assign(
		__entry->addr = addr;
		__entry->pages = pages;
	),
	TP_printk("addr=%#lx pages=%lu", __entry->addr, __entry->pages)
);

/* References to a pool changed: made, lost its last owner, or out of use at last. */
TRACE_EVENT(pseudo_mm_pool,
	TP_PROTO(const void *pool, const char *event, unsigned long pages),
	TP_ARGS(pool, event, pages),
	TP_STRUCT__entry(
		__field(const void *, pool)
		__array(char, event, 16)
		__field(unsigned long, pages)
	),
	TP_fast_assign(
		__entry->pool = pool;
		strscpy(__entry->event, event, sizeof(__entry->event));
		__entry->pages = pages;
	),
	TP_printk("pool=%p event=%s pages=%lu", __entry->pool, __entry->event, __entry->pages)
);

#endif /* PSEUDO_MM_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
