/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * What all programs here are written with. No header is needed: what is used of linux/bpf.h is written out, and never changes.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline, unused))

/* Maps as libbpf reads them from the types of their members. */
#define NUMBER(name, value) int (*name)[value]
#define TYPE(name, type) typeof(type) *name

enum { MAP_HASH = 1, MAP_CGROUP_STORAGE = 19, MAP_SK_STORAGE = 24, MAP_NO_PREALLOC = 1 };

static void *(*map_lookup)(void *map, const void *key) = (void *)1;

struct counter {
	u64 held, maxheld, failcnt;
};

INLINE void peak(struct counter *counter, u64 now)
{
	u64 known = counter->maxheld;
	for (int i = 0; i < 16 && known < now; i++) {
		u64 found = __sync_val_compare_and_swap(&counter->maxheld, known, now);
		if (found == known)
			return;
		known = found;
	}
}

INLINE void release(struct counter *counter)
{
	__sync_fetch_and_add(&counter->held, -1);
}
