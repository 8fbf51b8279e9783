/** The rows of the table of properties that say when a VE is backed up by itself: see properties.ts. */
import type { PropertyRow } from './types.ts';

/** Names of repositories. */
export const REPOSITORY_NAME = /^[a-z][a-z0-9-]{0,30}$/;

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

const SCHEDULE = new RegExp(`^(hourly(@[0-5]\\d)?|daily(@([01]\\d|2[0-3]):[0-5]\\d)?|weekly(@(${DAYS.join('|')})(-([01]\\d|2[0-3]):[0-5]\\d)?)?)$`);

/** Letters of what is kept, and what they mean. */
const SPANS = { l: 'last', h: 'hourly', d: 'daily', w: 'weekly', m: 'monthly', y: 'yearly' } as const;

const KEEP = /^([1-9]\d{0,3}[lhdwmy])( [1-9]\d{0,3}[lhdwmy]){0,5}$/;

export const BACKUP_PROPERTIES: readonly PropertyRow[] = [
  {
    name: 'backup.repository',
    type: { kind: 'text', maxLength: 31, pattern: new RegExp(`^$|${REPOSITORY_NAME.source}`), patternHelp: 'the name of a repository' },
    default: '',
    change: 'live',
    help: 'Repository (`veld repository list`) to which it is backed up by itself; empty: it is not.',
  },
  {
    name: 'backup.schedule',
    type: { kind: 'text', maxLength: 20, pattern: SCHEDULE, patternHelp: 'hourly, daily or weekly, with a time such as hourly@15, daily@02:30, weekly@sun-04:00' },
    default: 'daily@02:00',
    change: 'live',
    help: 'When it is backed up, in the time of the node: hourly@MINUTE, daily@HH:MM or weekly@DAY-HH:MM. One that was missed is made up for.',
  },
  {
    name: 'backup.keep',
    type: { kind: 'text', maxLength: 40, pattern: KEEP, patternHelp: 'numbers with a letter: l(ast), h(ours), d(ays), w(eeks), m(onths), y(ears), such as 7d 4w 6m' },
    default: '7d 4w 6m',
    change: 'live',
    help: 'Which backups are kept after each that the schedule has made: the newest of so many hours, days, weeks, months, years; and so many of the last ones.',
  },
];

/** What `backup.keep` says, by span. */
export function parseKeep(text: string): Partial<Record<(typeof SPANS)[keyof typeof SPANS], number>> {
  return Object.fromEntries(text.split(' ').map((word) => [SPANS[word.at(-1) as keyof typeof SPANS], Number(word.slice(0, -1))]));
}

/**
 * When a schedule was due last, at or before a moment.
 * @param schedule a value of `backup.schedule` @param now in whose time zone it is read: that of the process
 */
export function lastDue(schedule: string, now: Date): Date {
  const [kind = '', at = ''] = schedule.split('@');
  const due = new Date(now);
  due.setSeconds(0, 0);
  if (kind === 'hourly') {
    due.setMinutes(Number(at || 0));
    if (due > now) due.setHours(due.getHours() - 1);
    return due;
  }
  const clock = /(\d\d):(\d\d)$/.exec(at);
  due.setHours(Number(clock?.[1] ?? 2), Number(clock?.[2] ?? 0));
  if (kind === 'daily') {
    if (due > now) due.setDate(due.getDate() - 1);
    return due;
  }
  const day = Math.max(0, DAYS.indexOf(at.slice(0, 3)));
  due.setDate(due.getDate() - (due.getDay() - day + 7) % 7);
  if (due > now) due.setDate(due.getDate() - 7);
  return due;
}
