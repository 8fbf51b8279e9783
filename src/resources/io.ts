/**
 * What a VE may read from and write to the disk on which the disks of all VEs lie. Sources: Documentation/admin-guide/cgroup-v2.rst (io.max, io.weight), cgroup-v1/blkio-controller.rst, block/bfq-iosched.rst.
 * On v1 writes that go through the page cache are nobody's: only reads and direct writes are held to the limits there.
 */
import { existsSync, readFileSync } from 'node:fs';
import { placeOf, type ControlFile, type Host, type LimitWrite, type Place, type Plan, type Resource } from './control.ts';
import { planned } from './planned.ts';

const LACKS = 'the io controller with CONFIG_BLK_DEV_THROTTLING';

/** What a limit is, for reading and for writing: on v1 a file each, on v2 keys of one line. */
const FILES = {
  'io.limit': { v1: ['blkio.throttle.read_bps_device', 'blkio.throttle.write_bps_device'], keys: ['rbps', 'wbps'] },
  'io.iops': { v1: ['blkio.throttle.read_iops_device', 'blkio.throttle.write_iops_device'], keys: ['riops', 'wiops'] },
} as const;

const WEIGHT: ControlFile = { controller: 'blkio', v1: 'blkio.bfq.weight', v2: 'io.bfq.weight', lacks: 'the scheduler bfq (modprobe bfq)' };

export const io: Resource = {
  names: ['io.priority', 'io.limit', 'io.iops'],
  place(groups, property, { disk }) {
    if (typeof disk === 'string') return disk;
    if (property === 'io.priority') return weightPlace(groups, disk.name);
    return placeOf({ controller: 'blkio', v1: FILES[property as keyof typeof FILES].v1[0], v2: 'io.max', lacks: LACKS }, groups);
  },
  plan: (plan) => [...weight(plan), ...limit(plan, 'io.limit'), ...limit(plan, 'io.iops')],
};

/** A weight is a word to the scheduler of the disk; only one of them listens. */
function weightPlace(groups: Plan['groups'], disk: string): Place | string {
  const used = readIfThere(`/sys/class/block/${disk}/queue/scheduler`);
  const scheduler = /\[([^\]]+)\]/.exec(used)?.[1] ?? 'none';
  return scheduler === 'bfq' ? placeOf(WEIGHT, groups) : `the scheduler of ${disk} is ${scheduler}, and only bfq knows priorities (echo bfq >/sys/block/${disk}/queue/scheduler)`;
}

function readIfThere(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

/** The 8 priorities of OpenVZ as weights: the share of time that CFQ (block/cfq-iosched.c, cfq_prio_slice) gave to them, 100 for 4. */
function weight(plan: Plan): LimitWrite[] {
  const priority = plan.limits['io.priority'];
  return planned(io, plan, 'io.priority', priority !== 4, ({ v1 }) => (v1 ? '' : 'default ') + String(20 * (priority + 1)));
}

function limit(plan: Plan, property: 'io.limit' | 'io.iops'): LimitWrite[] {
  const amount = plan.limits[property];
  const { disk } = plan.host;
  return planned(io, plan, property, amount !== null, () => '').flatMap((write): LimitWrite[] => {
    const { device } = disk as Exclude<Host['disk'], string>;
    const { v1, keys } = FILES[property];
    if (write.file === 'io.max') return [{ ...write, device, value: `${device} ${keys.map((key) => `${key}=${amount ?? 'max'}`).join(' ')}` }];
    return v1.map((file) => ({ ...write, file, device, value: `${device} ${amount ?? 0}` }));
  });
}

/**
 * What a file with a line for each device says of one, in the form of what is written.
 * @param text of the file @param value what is to be written: its keys are looked for
 */
export function lineOf(text: string, device: string, value: string): string {
  const line = text.split('\n').find((one) => one.startsWith(`${device} `))?.slice(device.length + 1) ?? '';
  const wanted = value.slice(device.length + 1).split(' ');
  if (!value.includes('=')) return `${device} ${line === '' ? 0 : line}`;
  const there = new Map(line.split(' ').map((pair) => pair.split('=') as [string, string]));
  return `${device} ${wanted.map((pair) => pair.split('=')[0]!).map((key) => `${key}=${there.get(key) ?? 'max'}`).join(' ')}`;
}

