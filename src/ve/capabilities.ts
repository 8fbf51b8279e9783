/**
 * Capabilities of a VE's processes, valid in its user namespace only. Left out: SYS_MODULE, SYS_TIME, SYS_RAWIO, SYS_BOOT's host
 * meaning is confined by the pid namespace (reboot(2) ends the VE), MAC_*, SYSLOG, BPF, PERFMON, WAKE_ALARM, BLOCK_SUSPEND,
 * SYS_RESOURCE (the host's meanings ask for the host's capability anyway; the VE's own would raise the limits of its user namespace),
 * AUDIT_READ and CHECKPOINT_RESTORE: each speaks to the kernel as a whole.
 */
export const VE_CAPABILITIES: readonly string[] = [
  'CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP', 'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE', 'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW', 'IPC_LOCK', 'IPC_OWNER', 'SYS_CHROOT', 'SYS_PTRACE', 'SYS_PACCT',
  'SYS_ADMIN', 'SYS_BOOT', 'SYS_NICE', 'SYS_TTY_CONFIG', 'MKNOD', 'LEASE', 'AUDIT_WRITE', 'AUDIT_CONTROL', 'SETFCAP',
].map((name) => `CAP_${name}`);
