/**
 * Control groups in a state: what criu is to do about them, and what a host with others than those of the dump does not hold.
 *
 * A VE sees cgroup2 only, and makes groups only there. Of the other hierarchies that a hybrid host has its processes are in one group each, and so is criu before it
 * makes them (libexec/veld-runtime): they need not be told. So a state says nothing of these, and can be brought back on any host.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { changeImage } from './derive.ts';
import { changeMessage, textsOf, type Changes } from './protobuf.ts';
import type { StateFolder } from './types.ts';

/** Name of cgroup2 in images, and in /proc/PID/cgroup. */
const UNIFIED = '';

/** What libexec/veld-groups has saved beside the images: `GROUP/FILE:VALUE` in each line. */
const SAVED = 'groups';

/**
 * Prepare a state for a restore on this host.
 * @param controllers that the VE's group of cgroup2 has here
 */
export function fitGroups(state: Pick<StateFolder, 'images'>, controllers: readonly string[]): void {
  replace(state, 'cgroup.img', fitGroupImage);
  const saved = join(state.images, SAVED);
  const lines = existsSync(saved) ? readFileSync(saved, 'utf8').split('\n') : [];
  replace(state, 'files.img', (image) => fitWatches(image, controllers.includes('memory') ? groupsWithMemory(lines) : () => false));
}

/**
 * Of the image of control groups: nothing of other hierarchies than cgroup2, and nothing that criu would write into files of the VE's groups. Of these
 * libexec/veld-groups knows better, and criu 4.2 fails on cgroup.subtree_control, whose empty content it takes for a controller.
 * @throws VeldError `checkpoint.unusable`
 */
export function fitGroupImage(image: Buffer): Buffer {
  // cgroup_entry: sets = 1, controllers = 2; cg_set_entry: ctls = 2; cg_member_entry: name = 1; cg_controller_entry: cnames = 1, dirs = 2; cgroup_dir_entry:
  // children = 2, properties = 3
  const folder: Record<number, Changes[number]> = { 3: 'left out' };
  folder[2] = { message: folder };
  const keep = (message: Buffer): boolean => textsOf(message, 1).includes(UNIFIED);
  return changeImage(image, { 1: { message: { 2: { message: {}, keep } } }, 2: { message: { 2: { message: folder } }, keep } }, 'cgroup.img');
}

/**
 * Files of a group that are there only where cgroup2 has the memory controller, and that init watches (systemd: whether the kernel had to end processes of a unit); and those that are
 * watched in their place elsewhere: they are in every group, nothing ever happens to them, and no program has a use for them.
 */
const STAND_INS = [['memory.events', 'cgroup.max.descendants'], ['memory.events.local', 'cgroup.max.depth']] as const;
const WATCHED_GROUP = /^(?:\/sys\/fs\/cgroup)((?:\/[^/]+)+)\/([^/]+)$/;

/** How a file of a kernfs (control groups, sysfs) is found again without a name: FILEID_KERNFS of linux/exportfs.h. */
const KERNFS = 254;

/** A watch in a group that is to be made anew can be set by a name only. criu has been seen to write one without (on 6.12, once), and then fails on it. @param watch inotify_wd_entry */
function canBeSet(watch: Buffer): boolean {
  let [kernfs, named] = [false, false];
  changeMessage(watch, { 7: { message: { 2: { number: (type) => (kernfs ||= type === KERNFS, type) }, 4: { text: (path) => (named = true, path) } } } });
  return named || !kernfs;
}

/**
 * Let watches of files that this host does not have lie on others, and put them back where it has them. What cannot be watched again at all is left out: whoever watched it hears no more of it.
 * @param hasMemory whether a group will have the files of the memory controller here
 * @throws VeldError `checkpoint.unusable`
 */
export function fitWatches(image: Buffer, hasMemory: (group: string) => boolean): Buffer {
  const path = { text: (text: string): string => {
    const [, group, file] = WATCHED_GROUP.exec(text) ?? [];
    const pair = STAND_INS.find((names) => names.some((name) => name === file));
    return group === undefined || !pair ? text : `/sys/fs/cgroup${group}/${pair[hasMemory(group) ? 0 : 1]}`;
  } };
  // file_entry: ify = 13; inotify_file_entry: wd = 5; inotify_wd_entry: f_handle = 7; fh_entry: type = 2, path = 4
  return changeImage(image, { 13: { message: { 5: { message: { 7: { message: { 4: path } } }, keep: canBeSet } } } }, 'files.img');
}

/** Which groups will have the memory controller: those whose parent hands it down. @param lines that were saved; groups begin with a slash */
function groupsWithMemory(lines: readonly string[]): (group: string) => boolean {
  const handing = new Set(lines.flatMap((line) => {
    const [, parent, controllers] = /^(?:(.*)\/)?cgroup\.subtree_control:(.*)$/.exec(line) ?? [];
    return controllers?.split(' ').includes('memory') ? [parent === undefined ? '' : `/${parent}`] : [];
  }));
  return (group) => handing.has(group.slice(0, group.lastIndexOf('/')));
}

/** Groups that are named of those that have lost the same. */
const NAMED = 3;

/**
 * What libexec/veld-groups could not bring back of the limits that a VE has set for groups of its own, in words; undefined when that is nothing.
 * @param lines `GROUP/FILE:VALUE`; the VE has chosen the names
 */
export function unheldLimits(lines: string): string | undefined {
  const limits = lines.split('\n').flatMap((line) => {
    const [, group, file] = /^(.+)\/([a-z.]+):/.exec(line) ?? [];
    return group === undefined || file === undefined || file === 'cgroup.subtree_control' ? [] : [{ group, file }];
  });
  const lost = [...Map.groupBy(limits, ({ file }) => file)].map(([file, of]) => ({ file, groups: [...new Set(of.map(({ group }) => group))] }));
  // What few have first: somebody has wanted that, and what all have is systemd's own.
  const said = lost.toSorted((a, b) => a.groups.length - b.groups.length).map(({ file, groups }) => {
    const more = groups.length - NAMED;
    return `${file} of ${groups.slice(0, NAMED).map((group) => group.slice(0, 100)).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  });
  return said.length === 0 ? undefined : said.join('; ');
}

/** Change an image, if there is anything to change: into a new file, for other states may have this one, too. */
function replace({ images }: Pick<StateFolder, 'images'>, name: string, change: (image: Buffer) => Buffer): void {
  const file = join(images, name);
  const before = readFileSync(file);
  const after = change(before);
  if (after.equals(before)) return;
  writeFileSync(`${file}.new`, after, { mode: 0o644 });
  renameSync(`${file}.new`, file);
}
