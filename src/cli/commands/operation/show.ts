/** `veld operation show` */
import type { OperationRecord } from '../../../store/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutFacts } from '../../show/table.ts';
import { formatTime } from '../../show/text.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ operation: string }>({
  name: 'operation show',
  group: 'Operations',
  summary: 'Show one operation',
  args: [{ name: 'operation', completes: 'operation', help: 'Its id' }],
  examples: [['operation show 01K', 'How far it is, or how it ended']],
  errors: ['operation.not_found'],
  json: 'the operation',
  async run(context, { operation }) {
    const record = await (await context.client()).request<OperationRecord>('GET', `/v1/operations/${segment(operation)}`);
    if (context.json) return context.printJson(record);
    context.out(layoutFacts([
      ['Id', record.id],
      ['Verb', record.kind],
      ['VE', record.ve ?? undefined],
      ['State', record.state],
      ['Progress', `${Math.round(record.percent)} %  ${record.message}`],
      ['Begun', formatTime(record.createdAt)],
      ['Ended', record.endedAt === null ? undefined : formatTime(record.endedAt)],
      ['Request', record.requestId ?? undefined],
      ['Error', record.error ? `${record.error.message} (${record.error.code})` : undefined],
      ['Hint', record.error?.hint],
    ], context));
  },
});
