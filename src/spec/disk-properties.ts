/** The rows of the table of properties that say where a VE's disk lies and what it may hold: see properties.ts. */
import type { PropertyRow } from './types.ts';

/** The pool that is always there: the state folder itself. */
export const DEFAULT_POOL = 'default';

/** Names of pools. */
export const POOL_NAME = /^[a-z][a-z0-9-]{0,30}$/;

export const DISK_PROPERTIES: readonly PropertyRow[] = [
  {
    name: 'disk.pool',
    type: { kind: 'text', maxLength: 31, pattern: POOL_NAME, patternHelp: 'the name of a pool' },
    default: DEFAULT_POOL,
    change: 'create',
    help: 'Pool on which its disk lies (`veld pool list`).',
  },
  {
    name: 'disk.space',
    // Below 1 MiB not even the logs of a boot find room.
    type: { kind: 'quota', of: 'bytes', min: 1 << 20, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most that the VE may write to its disk: what may be in use for disk.grace, and what at most. Its template, which all share, does not count; what snapshots hold of it does.',
    vzctl: { option: 'diskspace', key: 'DISKSPACE' },
    needs: 'a pool that holds it',
  },
  {
    name: 'disk.inodes',
    type: { kind: 'quota', of: 'items', min: 100, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most files, folders and links that the VE may make on its disk: for disk.grace, and at most.',
    vzctl: { option: 'diskinodes', key: 'DISKINODES' },
    needs: 'a pool that holds it',
  },
  {
    name: 'disk.grace',
    type: { kind: 'seconds', min: 1, max: 365 * 86_400 },
    default: 7 * 86_400,
    change: 'live',
    help: 'For how long more than a soft limit of disk.space or disk.inodes may be in use.',
    vzctl: { option: 'quotatime', key: 'QUOTATIME' },
  },
  {
    name: 'disk.users',
    type: { kind: 'integer', min: 0, max: 1_000_000 },
    default: 0,
    change: 'live',
    help: 'How many users and groups of the VE may have disk quotas of their own (`veld quota`); 0: none can be given any. Those that have one keep it.',
    vzctl: { option: 'quotaugidlimit', key: 'QUOTAUGIDLIMIT' },
    needs: 'a pool that counts users',
  },
  {
    name: 'disk.users_grace',
    type: { kind: 'seconds', min: 1, max: 365 * 86_400 },
    default: 7 * 86_400,
    change: 'live',
    help: 'For how long a user or group of the VE may have more than a soft limit of its own. Its root can change it, too (`setquota -t`).',
  },
  {
    name: 'disk.mounts',
    type: { kind: 'list', item: 'mount', maxItems: 16 },
    default: [],
    change: 'restart',
    help: 'Folders of the host in the VE: `/srv/data:/data`, `/srv/pub:/pub:ro`. Owners are counted from 0, as the VE sees them, unless `:plain`. What is in them is the host\'s: not counted, not in snapshots, exports and backups.',
    vzctl: { option: 'bindmount_add', key: 'BINDMOUNTS' },
  },
];
