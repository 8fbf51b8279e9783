/*
 * quota, repquota, setquota, edquota and warnquota inside a VE: the words of a command go to the daemon on the host, by a socket that is bound into the VE,
 * and its answer comes back. The kernel's accounts are the host's to read and to change: a VE's root may not (quotactl(2) asks for a block device, and
 * for CAP_SYS_ADMIN where the file system was mounted).
 *
 * Who asks is told by the kernel (SO_PEERCRED), never by what is sent. Nothing stays open while an editor runs: the answer "edit this" ends a
 * conversation, and what was edited begins another one. So a VE can be dumped meanwhile, and a daemon that starts anew is not missed.
 *
 * Format, both ways: frames of one byte of type, four of length (little-endian), and so many bytes. To the daemon: A words, each with a NUL
 * at its end, the name of the tool first; T text; G no more follows. From it: O and R for standard output and error; E text to edit; S: ask again, with what standard input
 * holds; M a mail with its head; X the exit status, one byte, and the end.
 *
 * No header of the system and no library: it runs with whatever C library a VE has, or none.
 */

#include "system-call.h"

#define SOCKET "/run/veld/quota/socket"
#define MOST (1 << 20)
#define AT_FDCWD (-100L)
#define O_RDWR 02L
#define O_CREAT 0100L
#define O_EXCL 0200L
#if defined(__x86_64__)
#define O_NOFOLLOW 0400000L
#else
#define O_NOFOLLOW 0100000L
#endif
#define O_CLOEXEC 02000000L
#define SIGCHLD 17L
#define AF_UNIX 1
#define SOCK_STREAM 1L
#define ENOENT 2L
#define ECONNREFUSED 111L
#define EINTR 4L
#define MSG_NOSIGNAL 0x4000L

#if defined(__x86_64__)
enum { NR_READ = 0, NR_WRITE = 1, NR_CLOSE = 3, NR_SOCKET = 41, NR_CONNECT = 42, NR_SENDTO = 44, NR_CLONE = 56, NR_EXECVE = 59, NR_WAIT4 = 61, NR_EXIT = 231, NR_OPENAT = 257, NR_UNLINKAT = 263, NR_DUP3 = 292, NR_PIPE2 = 293, NR_GETRANDOM = 318 };
#else
enum { NR_READ = 63, NR_WRITE = 64, NR_CLOSE = 57, NR_SOCKET = 198, NR_CONNECT = 203, NR_SENDTO = 206, NR_CLONE = 220, NR_EXECVE = 221, NR_WAIT4 = 260, NR_EXIT = 94, NR_OPENAT = 56, NR_UNLINKAT = 35, NR_DUP3 = 24, NR_PIPE2 = 59, NR_GETRANDOM = 278 };
#endif

#define CALL(number, a, b, c, d) kernel(number, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static const char *tool;
static char **environment;
/* The connection; 0: none. */
static long host;
/* What is to be edited, and then what came of it. */
static char text[MOST + 1];
static long length;

/* The compiler may call these for loops and assignments. */
void *memcpy(void *to, const void *from, unsigned long count)
{
	for (unsigned long i = 0; i < count; i++)
		((volatile char *)to)[i] = ((const char *)from)[i];
	return to;
}

void *memset(void *to, int value, unsigned long count)
{
	for (unsigned long i = 0; i < count; i++)
		((volatile char *)to)[i] = (char)value;
	return to;
}

static long sizeOf(const char *string)
{
	long count = 0;
	while (string[count])
		count++;
	return count;
}

static __attribute__((noreturn)) void leave(int status)
{
	for (;;)
		CALL(NR_EXIT, status, 0, 0, 0);
}

/* All of it, or an error. */
static long put(long fd, const char *bytes, long count)
{
	while (count > 0) {
		/* To the host without SIGPIPE: it may have hung up. (A length of 0 for an address: none.) */
		long done = fd == host ? CALL(NR_SENDTO, fd, bytes, count, MSG_NOSIGNAL) : CALL(NR_WRITE, fd, bytes, count, 0);
		if (done == -EINTR)
			continue;
		if (done <= 0)
			return done;
		bytes += done;
		count -= done;
	}
	return 0;
}

static __attribute__((noreturn)) void fail(const char *what)
{
	put(2, tool, sizeOf(tool));
	put(2, ": ", 2);
	put(2, what, sizeOf(what));
	put(2, "\n", 1);
	leave(1);
}

/* So many bytes. Returns how many came before the end. */
static long get(long fd, char *bytes, long count)
{
	long found = 0;
	while (found < count) {
		long done = CALL(NR_READ, fd, bytes + found, count - found, 0);
		if (done == -EINTR)
			continue;
		if (done <= 0)
			break;
		found += done;
	}
	return found;
}

static void putFrame(long fd, char type, const char *bytes, long count)
{
	char head[5] = { type, (char)count, (char)(count >> 8), (char)(count >> 16), (char)(count >> 24) };
	if (put(fd, head, 5) < 0 || put(fd, bytes, count) < 0)
		fail("the host does not listen any more; try again");
}

static long reach(void)
{
	struct { unsigned short family; char path[108]; } address = { AF_UNIX, SOCKET };
	long fd = CALL(NR_SOCKET, AF_UNIX, SOCK_STREAM | O_CLOEXEC, 0, 0);
	if (fd < 0)
		fail("no socket can be made");
	long done = CALL(NR_CONNECT, fd, &address, sizeof address, 0);
	if (done == -ENOENT)
		fail("users of this server have no disk quotas: its provider has not switched them on (disk.users)");
	if (done == -ECONNREFUSED)
		fail("Veld's daemon on the host does not run just now, or users have no disk quotas any more; limits hold all the same");
	if (done < 0)
		fail("the host cannot be asked");
	return fd;
}

/* Run a program with its standard input from a descriptor. */
static long child(long input, const char **words)
{
	long pid = CALL(NR_CLONE, SIGCHLD, 0, 0, 0);
	if (pid == 0) {
		if (input > 0)
			CALL(NR_DUP3, input, 0, 0, 0);
		CALL(NR_EXECVE, words[0], words, environment, 0);
		leave(127);
	}
	return pid;
}

static int ended(long pid)
{
	int status = 0;
	while (CALL(NR_WAIT4, pid, &status, 0, 0) == -EINTR)
		;
	return status;
}

/* Let the user edit `text`, in a file that nobody else can have made. */
static void edit(void)
{
	static char file[] = "/tmp/edquota-0123456789abcdef";
	unsigned char random[8];
	if (CALL(NR_GETRANDOM, random, 8, 0, 0) != 8)
		fail("there are no random numbers");
	for (int i = 0; i < 16; i++)
		file[13 + i] = "0123456789abcdef"[random[i / 2] >> (i % 2 ? 0 : 4) & 15];
	long fd = CALL(NR_OPENAT, AT_FDCWD, file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		fail("no file can be made in /tmp");
	int wrong = put(fd, text, length) < 0;
	CALL(NR_CLOSE, fd, 0, 0, 0);
	const char *words[] = { "/bin/sh", "-c", "exec ${VISUAL:-${EDITOR:-$(command -v editor || echo vi)}} \"$1\"", "sh", file, 0 };
	long pid = wrong ? -1 : child(0, words);
	if (pid < 0 || ended(pid) != 0)
		wrong = 1;
	/* Editors put another file in its place. */
	fd = wrong ? -1 : CALL(NR_OPENAT, AT_FDCWD, file, O_NOFOLLOW | O_CLOEXEC, 0);
	if (fd >= 0)
		length = get(fd, text, MOST + 1);
	CALL(NR_UNLINKAT, AT_FDCWD, file, 0, 0);
	if (fd < 0)
		fail("the editor did not end well; nothing is changed");
	CALL(NR_CLOSE, fd, 0, 0, 0);
	if (length > MOST)
		fail("that is more than 1 MiB; nothing is changed");
}

static void mail(const char *bytes, long count)
{
	int ends[2];
	const char *words[] = { "/usr/sbin/sendmail", "-t", "-i", 0 };
	if (CALL(NR_PIPE2, ends, O_CLOEXEC, 0, 0) < 0)
		fail("no pipe can be made");
	long pid = child(ends[0], words);
	CALL(NR_CLOSE, ends[0], 0, 0, 0);
	if (pid >= 0)
		put(ends[1], bytes, count);
	CALL(NR_CLOSE, ends[1], 0, 0, 0);
	if (pid < 0 || ended(pid) != 0)
		fail("a mail could not be handed to /usr/sbin/sendmail");
}

/* One conversation. Returns the type of frame that asks for another one, or 0. */
static char ask(char **words, int withText, int *status)
{
	static char words_[1 << 16];
	static char bytes[MOST + 1];
	long fd = host = reach();
	long count = 0;
	for (int i = 0; i == 0 || words[i]; i++) {
		const char *word = i == 0 ? tool : words[i];
		long size = sizeOf(word) + 1;
		if (count + size > (long)sizeof words_)
			fail("so many words cannot be sent");
		memcpy(words_ + count, word, size);
		count += size;
	}
	putFrame(fd, 'A', words_, count);
	if (withText)
		putFrame(fd, 'T', text, length);
	putFrame(fd, 'G', "", 0);
	char again = 0;
	for (;;) {
		unsigned char head[5];
		if (get(fd, (char *)head, 5) != 5)
			fail("the host's answer broke off; see what is so now before you try again");
		long size = head[1] | head[2] << 8 | head[3] << 16 | (long)head[4] << 24;
		if (size > MOST || get(fd, bytes, size) != size)
			fail("the host's answer broke off; see what is so now before you try again");
		switch (head[0]) {
		case 'O':
			if (put(1, bytes, size) < 0)
				leave(1);
			break;
		case 'R':
			put(2, bytes, size);
			break;
		case 'E':
			memcpy(text, bytes, size);
			length = size;
			again = 'E';
			break;
		case 'S':
			again = 'S';
			break;
		case 'M':
			mail(bytes, size);
			break;
		case 'X':
			*status = size > 0 ? (unsigned char)bytes[0] : 1;
			CALL(NR_CLOSE, fd, 0, 0, 0);
			host = 0;
			return again;
		}
	}
}

__attribute__((noreturn, used)) void begin(long *stack)
{
	long count = stack[0];
	char **words = (char **)(stack + 1);
	environment = words + count + 1;
	tool = "quota";
	/* The scripts that call it give the name of the tool first. */
	if (count > 1)
		tool = words[1];
	int status = 1;
	char again = ask(words + (count > 1 ? 1 : 0), 0, &status);
	if (again == 'E')
		edit();
	if (again == 'S') {
		length = get(0, text, MOST + 1);
		if (length > MOST)
			fail("standard input holds more than 1 MiB; nothing is changed");
	}
	if (again)
		ask(words + 1, 1, &status);
	leave(status);
}

/* The stack as the kernel leaves it: the number of words, the words, a null pointer, the environment (System V ABI, process initialization). */
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tbl begin\n");
#endif
