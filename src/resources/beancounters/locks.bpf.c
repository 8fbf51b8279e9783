// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/*
 * Counts the file locks of a VE, and refuses those beyond its barrier: numflock.
 *
 * A lock is what flock(2) and fcntl(2) leave with a file: a line of /proc/locks without an arrow. Those that wait for one are none, nor are leases. It
 * is the VE's whose process asked for it, until it is gone, whoever takes it away.
 *
 * Only security_file_lock() can refuse, before the kernel looks what there is: at the barrier also a lock that would take another one's place is refused.
 * Taking away is never refused, though it may leave two locks of one; nor is a lock for which a process has waited.
 */
#include "owner.bpf.h"

#define AS_IN_KERNEL __attribute__((preserve_access_index))

struct file_lock {
	const void *fl_ops;
} AS_IN_KERNEL;

enum { F_UNLCK = 2, ENOLCK = 37 };

static u64 (*current_ids)(void) = (void *)15;

/* Locks that are counted, by their address in the kernel, and whose they are. One that finds no place here is not counted. */
struct {
	NUMBER(type, MAP_HASH);
	NUMBER(max_entries, 131072);
	NUMBER(map_flags, MAP_NO_PREALLOC);
	TYPE(key, u64);
	TYPE(value, u32);
} veld_locks SEC(".maps");

SEC("fmod_ret/security_file_lock")
int veld_lock_ask(u64 *ctx)
{
	if ((u32)ctx[1] == F_UNLCK)
		return 0;
	struct ve *ve = find((u32)current_ids());
	if (!ve || ve->quiet || ve->counter.held < ve->barrier)
		return 0;
	__sync_fetch_and_add(&ve->counter.failcnt, 1);
	return -ENOLCK;
}

/* Each lock that comes to a file is copied from what was asked for, or from the one that it is a part of. */
SEC("fentry/locks_copy_lock")
int veld_lock_new(u64 *ctx)
{
	u32 uid = (u32)current_ids();
	struct ve *ve = find(uid);
	if (!ve)
		return 0;
	struct file_lock *from = (void *)ctx[1];
	/* A file system of the network: it copies for other reasons, too, and has a limit of its own. */
	if (from->fl_ops)
		return 0;
	u64 lock = ctx[0];
	u32 key = uid >> 16;
	if (map_update(&veld_locks, &lock, &key, MAP_NOEXIST))
		return 0;
	u64 now = __sync_fetch_and_add(&ve->counter.held, 1) + 1;
	if (!ve->quiet)
		peak(&ve->counter, now);
	return 0;
}

SEC("fentry/locks_release_private")
int veld_lock_gone(u64 *ctx)
{
	u64 lock = ctx[0];
	u32 *key = map_lookup(&veld_locks, &lock);
	if (!key)
		return 0;
	struct ve *ve = map_lookup(&veld_ves, key);
	map_delete(&veld_locks, &lock);
	if (ve)
		drop(ve);
	return 0;
}
