/*
 * A user namespace belongs to who made it, and what the kernel counts by user counts for that one, too: queued signals and timers, message
 * queues, locked memory, inotify, namespaces of each kind. Made by root of the host, one VE could use up what all others and the host's root have. This is
 * loaded (LD_PRELOAD) before the C library into those who make that of a VE, unshare(1) for a boot and criu for a restore, and has that one call made as
 * the VE's own root.
 *
 * Whoever owns a namespace has all capabilities over it, and a root of the host who lacks CAP_SYS_RESOURCE has lost that one with the ownership:
 * he is told no limits of the VE's processes (check_prlimit_permission, kernel/sys.c), which criu has to write down. That call, when it is refused, is made
 * again as the VE's root, too.
 *
 * All that is needed for both is the effective user id at that moment (create_user_ns, kernel/user_namespace.c; cap_capable, security/commoncap.c). The real
 * one stays root's, or the kernel would hold the host's RLIMIT_NPROC for all of the VE together. The capabilities are kept meanwhile
 * (SECBIT_NO_SETUID_FIXUP, capabilities(7)): the processes of the VE get pids by choice, which takes one, and some kernels let only the privileged make
 * such a namespace. Nobody can send a signal by that id, nor trace: real and saved id stay root's. When anything of it fails the call is made as it would
 * have been.
 *
 * No header of the system and no library is needed to build this, and it needs nothing but the C library into whose process it comes.
 */

#include "system-call.h"

#define CLONE_NEWUSER 0x10000000ULL
#define SECBIT_NO_SETUID_FIXUP 4L
#define PR_GET_DUMPABLE 3L
#define PR_SET_DUMPABLE 4L
#define PR_GET_SECUREBITS 27L
#define PR_SET_SECUREBITS 28L
#define KEEP (-1L)
#define EPERM 1L

#if defined(__x86_64__)
enum { NR_GETEUID = 107, NR_SETRESUID = 117, NR_PRCTL = 157, NR_UNSHARE = 272, NR_PRLIMIT64 = 302, NR_CLONE3 = 435 };
#else
enum { NR_GETEUID = 175, NR_SETRESUID = 147, NR_PRCTL = 167, NR_UNSHARE = 97, NR_PRLIMIT64 = 261, NR_CLONE3 = 435 };
#endif

extern char *getenv(const char *name);
extern int unsetenv(const char *name);

/* The user id on the host; 0: none. */
static long owner;

__attribute__((constructor)) static void begin(void)
{
	const char *digit = getenv("VELD_NAMESPACE_OWNER");

	while (digit && *digit >= '0' && *digit <= '9' && owner < 0xffffffffL)
		owner = owner * 10 + (*digit++ - '0');
	/* What they start is none of this library's business. */
	unsetenv("LD_PRELOAD");
	unsetenv("VELD_NAMESPACE_OWNER");
}

static long as_owner(long number, long a, long b, long c, long d)
{
	long bits = kernel(NR_PRCTL, PR_GET_SECUREBITS, 0, 0, 0, 0, 0);
	long dumpable = kernel(NR_PRCTL, PR_GET_DUMPABLE, 0, 0, 0, 0, 0);
	int changed = bits >= 0 && kernel(NR_PRCTL, PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP, 0, 0, 0, 0) == 0;
	/* (Who is asked for limits need not have any capability but the owner's.) */
	int other = (changed || number == NR_PRLIMIT64) && kernel(NR_SETRESUID, KEEP, owner, KEEP, 0, 0, 0) == 0;
	long result = kernel(number, a, b, c, d, 0, 0);
	/* Whoever is in the new namespace begins there as all do, with nothing of these bits. */
	int inside = result == 0 && number != NR_PRLIMIT64;

	if (!inside && other)
		kernel(NR_SETRESUID, KEEP, 0, KEEP, 0, 0, 0);
	if (!inside && changed)
		kernel(NR_PRCTL, PR_SET_SECUREBITS, bits, 0, 0, 0, 0);
	/* Another id takes /proc/self from a process. */
	if (other && dumpable == 1)
		kernel(NR_PRCTL, PR_SET_DUMPABLE, 1, 0, 0, 0, 0);
	return result;
}

static int is_root(void)
{
	return owner > 0 && kernel(NR_GETEUID, 0, 0, 0, 0, 0, 0) == 0;
}

/* In place of the C library's (syscall(2)), by which criu makes processes and asks for their limits. */
long syscall(long number, long a, long b, long c, long d, long e, long f)
{
	long result;

	if (number == NR_CLONE3 && a && (*(const unsigned long long *)a & CLONE_NEWUSER) && is_root())
		return answer(as_owner(number, a, b, c, d));
	result = kernel(number, a, b, c, d, e, f);
	if (number == NR_PRLIMIT64 && result == -EPERM && is_root())
		result = as_owner(number, a, b, c, d);
	return answer(result);
}

/* In place of the C library's (unshare(2)). */
int unshare(int flags)
{
	int makes = (flags & CLONE_NEWUSER) && is_root();

	return (int)answer(makes ? as_owner(NR_UNSHARE, flags, 0, 0, 0) : kernel(NR_UNSHARE, flags, 0, 0, 0, 0, 0));
}
