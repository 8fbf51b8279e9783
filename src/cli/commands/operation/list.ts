/** `veld operation list` */
import type { OperationRecord } from '../../../store/types.ts';
import type { VeView } from '../../../ve/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable, paintStatus } from '../../show/table.ts';
import { formatClock, formatSeconds } from '../../show/text.ts';
import { parsePositive } from '../../values.ts';

export const command = defineCommand<object, { limit?: number; running?: boolean }>({
  name: 'operation list',
  group: 'Operations',
  summary: 'List operations under way and ended lately',
  options: [{ flags: '-n, --limit <count>', help: 'At most this many, the newest; default 20', parse: parsePositive }, { flags: '-r, --running', help: 'Only those under way' }],
  examples: [['operation list', 'What happens now and happened lately'], ['operation list --running', 'What happens now']],
  json: 'an array of operations, the newest first',
  async run(context, _args, options) {
    const client = await context.client();
    const limit = Math.min(1000, options.running ? 1000 : options.limit ?? 20);
    const all = await client.request<OperationRecord[]>('GET', `/v1/operations?limit=${limit}`);
    const records = options.running ? all.filter((record) => record.state === 'running').slice(0, options.limit) : all;
    if (context.json) return context.printJson(records);
    const ves = new Map((await client.request<VeView[]>('GET', '/v1/ves')).map((ve) => [ve.uuid, ve.name]));
    context.out(layoutTable([
      { title: 'ID' }, { title: 'VERB' }, { title: 'VE', shrink: true }, { title: 'STATE', paint: paintStatus }, { title: 'BEGUN' }, { title: 'TOOK', right: true },
      { title: 'NOW', shrink: true },
    ], records.map((record) => [record.id, record.kind, record.ve === null ? '-' : ves.get(record.ve) ?? record.ve.slice(0, 8), record.state,
      formatClock(new Date(record.createdAt)), formatSeconds((Date.parse(record.endedAt ?? new Date().toISOString()) - Date.parse(record.createdAt)) / 1000),
      record.error?.message ?? (record.state === 'running' ? `${Math.round(record.percent)} % ${record.message}` : '')]), context));
  },
});
