// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/*
 * Counts the open files of a VE, and refuses those beyond its limit: numfile.
 *
 * A file is whatever open(2), socket(2), pipe(2), memfd_create(2) and their like make, from then until nobody has it any more: no descriptor, no
 * mapping, nothing under way to somebody. It is its opener's, whoever closes it: the kernel keeps with each file who that was, and never changes it.
 *
 * security_file_alloc() is where all files come by, and security_file_free() where they go. No order of the security modules (lsm=) is needed
 * for these: what is changed is the former's answer. It has one of its own to give only where it has no memory for some bytes, which the kernel
 * always finds.
 */
#include "owner.bpf.h"

#define AS_IN_KERNEL __attribute__((preserve_access_index))

typedef struct {
	u32 val;
} AS_IN_KERNEL kuid_t;

struct cred {
	kuid_t uid;
} AS_IN_KERNEL;

struct file {
	const struct cred *f_cred;
} AS_IN_KERNEL;

struct task_struct {
	u32 ptrace;
	struct task_struct *parent;
	const struct cred *cred;
} AS_IN_KERNEL;

enum { ENFILE = 23 };

static struct task_struct *(*current_task)(void) = (void *)158;

/* Whether somebody outside of the VE holds this process: criu, which has it open files of its own to look into it. */
INLINE int is_held_from_outside(u32 uid)
{
	struct task_struct *task = current_task();
	return task->ptrace && task->parent->cred->uid.val >> 16 != uid >> 16;
}

SEC("fmod_ret/security_file_alloc")
int veld_file_alloc(u64 *ctx)
{
	struct file *file = (void *)ctx[0];
	u32 uid = file->f_cred->uid.val;
	struct ve *ve = find(uid);
	if (!ve)
		return 0;
	u64 now = __sync_fetch_and_add(&ve->counter.held, 1) + 1;
	if (now > ve->barrier && !ve->quiet && !is_held_from_outside(uid)) {
		release(&ve->counter);
		__sync_fetch_and_add(&ve->counter.failcnt, 1);
		return -ENFILE;
	}
	if (!ve->quiet)
		peak(&ve->counter, now);
	return 0;
}

SEC("fentry/security_file_free")
int veld_file_free(u64 *ctx)
{
	struct file *file = (void *)ctx[0];
	struct ve *ve = find(file->f_cred->uid.val);
	if (ve)
		drop(ve);
	return 0;
}
