/** `veld quota` */
import { VeldError } from '../../lib/errors.ts';
import type { DiskAccount, DiskLimits } from '../../storage/types.ts';
import type { QuotaReport } from '../../ve/types.ts';
import { defineCommand } from '../command.ts';
import { layoutTable } from '../show/table.ts';
import { formatBytes, formatTime } from '../show/text.ts';
import { parsePair, propertiesOf, segment } from '../values.ts';

type Account = QuotaReport['users'][number];

export const command = defineCommand<{ 've': string; 'kind': string | undefined; 'who': string | undefined; 'limit': string[] | undefined }>({
  name: 'quota',
  group: 'Life of a VE',
  summary: 'Show and change disk quotas of a VE\'s users and groups',
  description: [
    'Without more than a VE: what it may have on its disk, and has, and so for its users and groups. With a user or group and limits these are changed, at once.',
    'The quota of the VE as a whole is set with `veld set VE disk.space=9G:10G disk.inodes=500000`; users and groups can have quotas of their own as soon as `disk.users` is above 0.',
  ],
  args: [
    { name: 've', completes: 've', help: 'Name, number or UUID' },
    { name: 'kind', help: '`user` or `group`', required: false },
    { name: 'who', help: 'Its name in the VE (while that runs), or its number', required: false },
    { name: 'limit', help: '`space=SOFT:HARD` and `inodes=SOFT:HARD`, or one limit for both; `unlimited` takes it away', required: false, variadic: true },
  ],
  examples: [['quota web', 'All accounts of a VE'], ['quota web user alice space=900M:1G inodes=10000', 'Limit a user'], ['quota web group 1000 space=unlimited', 'Take a limit away']],
  errors: ['ve.not_found', 've.busy', 'property.invalid', 'property.not_live', 'property.unsupported', 'request.invalid', 'pool.unavailable'],
  json: 'the quota of the VE and of all accounts; with a user or group its account',
  async run(context, { ve, kind, who, limit = [] }) {
    const client = await context.client();
    if (kind !== undefined && kind !== 'user' && kind !== 'group') throw new VeldError('usage', `quota: ${JSON.stringify(kind)} is neither user nor group.`, { hint: 'See `veld help quota`.' });
    if (kind === undefined || who === undefined) {
      if (kind !== undefined) throw new VeldError('usage', `quota: which ${kind}?`, { hint: 'Give its name or number.' });
      const report = await client.request<QuotaReport>('GET', `/v1/ves/${segment(ve)}/quota`);
      return context.json ? context.printJson(report) : context.out(describe(ve, report, context));
    }
    const changes = propertiesOf(limit.map(parsePair), 'quota');
    const wrong = Object.keys(changes).find((name) => name !== 'space' && name !== 'inodes');
    if (wrong !== undefined) throw new VeldError('usage', `quota: ${JSON.stringify(wrong)} is neither space nor inodes.`, { hint: 'See `veld help quota`.' });
    const account = await client.request<Account>('PATCH', `/v1/ves/${segment(ve)}/quota/${kind}/${segment(who)}`, changes);
    if (context.json) context.printJson(account);
    else context.out(table([rowOf(kind, account)], context));
  },
});

function describe(ve: string, { ve: { limits, used }, most, users, groups }: QuotaReport, style: { width: number; colour: boolean }): string {
  const rows = [['VE', ve, ...figures(limits, used)], ...users.map((user) => rowOf('user', user)), ...groups.map((group) => rowOf('group', group))];
  return `${table(rows, style)}${most === 0 ? `Users and groups have no quotas of their own: \`veld set ${ve} disk.users=1000\` switches them on.\n` : ''}`;
}

function rowOf(kind: string, { id, name, limits, used }: Account): string[] {
  return [kind, name ?? String(id), ...figures(limits, used)];
}

/** What is in use, soft and hard limit, and until when the soft one may be exceeded: of space, then of inodes. */
function figures({ space, inodes }: DiskLimits, used: DiskAccount | null): string[] {
  const bytes = (value: number | null | undefined): string => (value === null || value === undefined ? '-' : formatBytes(value));
  const count = (value: number | null | undefined): string => (value === null || value === undefined ? '-' : String(value));
  const until = (time: number | null | undefined): string => (time === null || time === undefined ? '' : formatTime(new Date(time * 1000).toISOString()));
  return [bytes(used?.space), bytes(space?.soft), bytes(space?.hard), until(used?.spaceUntil), count(used?.inodes), count(inodes?.soft), count(inodes?.hard), until(used?.inodesUntil)];
}

function table(rows: string[][], style: { width: number; colour: boolean }): string {
  const right = (title: string): { title: string; right: true } => ({ title, right: true });
  return layoutTable([{ title: 'OF' }, { title: 'NAME', shrink: true }, right('SPACE'), right('SOFT'), right('HARD'), { title: 'UNTIL' }, right('INODES'), right('SOFT'), right('HARD'), { title: 'UNTIL' }], rows, style);
}
