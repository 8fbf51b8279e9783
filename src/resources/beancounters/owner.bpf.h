/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * What VEs have of something that the kernel knows by its owner and not by a control group: each VE has a range of 65536 user ids of its own, from a
 * multiple of that on, and nobody else has one of these. So the upper half of an id names the VE.
 *
 * The programs see the whole host. One look at an id tells them that it is not a VE's; all else is for VEs.
 */
#include "common.bpf.h"

/* Lowest id of a VE: see src/ve/uid-ranges.ts. */
#define LOWEST 0x3c000000U
#define RANGES 65536
#define UNLIMITED (~0ULL)

enum { MAP_NOEXIST = 1 };

static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;

struct ve {
	/* The control group of the VE's present life; 0: it has none. */
	u64 group;
	struct counter counter;
	/* Refused from here on, and what was said to be the limit: with numflock these differ. */
	u64 barrier, limit;
	/* A restore is under way: what processes had comes back. */
	u64 quiet;
};

/* `held` is of the range of ids, whoever lives there: what of an earlier life somebody still has open is held. */
struct {
	NUMBER(type, MAP_HASH);
	NUMBER(max_entries, RANGES);
	NUMBER(map_flags, MAP_NO_PREALLOC);
	TYPE(key, u32);
	TYPE(value, struct ve);
} veld_ves SEC(".maps");

INLINE struct ve *find(u32 uid)
{
	if (uid < LOWEST)
		return 0;
	u32 key = uid >> 16;
	return map_lookup(&veld_ves, &key);
}

/* One less. What was there before anybody counted is never taken off what was counted. */
INLINE void drop(struct ve *ve)
{
	if ((long long)__sync_fetch_and_add(&ve->counter.held, -1) <= 0)
		__sync_fetch_and_add(&ve->counter.held, 1);
}

enum { BEGIN = 1, LIMIT = 2, END = 3 };

struct order {
	u64 what, key, group, barrier, limit, quiet;
};

/*
 * Called by Veld: what it changes of a VE must not undo what is counted at that moment, as a new value of the map's would.
 * It returns 0, or 1 when the VE is not counted in this group.
 */
SEC("syscall")
int veld_control(struct order *order)
{
	u32 key = order->key;
	struct ve *ve = map_lookup(&veld_ves, &key);
	if (order->what == END) {
		if (!ve || ve->group != order->group)
			return 1;
		ve->group = 0;
		ve->barrier = ve->limit = UNLIMITED;
		if (ve->counter.held == 0)
			map_delete(&veld_ves, &key);
		return 0;
	}
	if (order->what == BEGIN && !ve) {
		struct ve none = { .barrier = UNLIMITED, .limit = UNLIMITED };
		map_update(&veld_ves, &key, &none, MAP_NOEXIST);
		ve = map_lookup(&veld_ves, &key);
	}
	if (!ve)
		return 1;
	if (order->what == BEGIN && ve->group != order->group) {
		ve->group = order->group;
		ve->counter.maxheld = order->quiet ? 0 : ve->counter.held;
		ve->counter.failcnt = 0;
	}
	if (ve->group != order->group)
		return 1;
	ve->quiet = order->quiet;
	ve->barrier = order->barrier;
	ve->limit = order->limit;
	return 0;
}

char licence[] SEC("license") = "Dual BSD/GPL";
