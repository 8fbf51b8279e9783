/** `veld operation cancel` */
import { defineCommand } from '../../command.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ operation: string }>({
  name: 'operation cancel',
  group: 'Operations',
  summary: 'Ask an operation to stop and to undo what it did',
  description: ['Returns at once. An operation that has passed its point of no return goes on to its end.'],
  args: [{ name: 'operation', help: 'Its id (`veld operation list`)' }],
  examples: [['operation cancel 01K', 'Cancel']],
  errors: ['operation.not_found', 'operation.committed'],
  json: 'the operation',
  async run(context, { operation }) {
    const record: unknown = await (await context.client()).request('DELETE', `/v1/operations/${segment(operation)}`);
    if (context.json) context.printJson(record ?? null);
    else context.out(`${operation} is being cancelled\n`);
  },
});
