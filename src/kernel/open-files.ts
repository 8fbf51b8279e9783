/** What a process has open, by proc_pid_fd(5). */
import { readdirSync, readlinkSync } from 'node:fs';

export interface OpenFile {
  fd: string;
  /** Where the link leads: a path, `socket:[INODE]`, `anon_inode:inotify`, ... */
  link: string;
}

/** @returns nothing of one that has ended */
export function openFiles(pid: number): OpenFile[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [{ fd, link: readlinkSync(`/proc/${pid}/fd/${fd}`) }];
      } catch {
        return []; // closed meanwhile
      }
    });
  } catch {
    return [];
  }
}
