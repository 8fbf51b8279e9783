/** `veld operation cancel` */
import { VeldError } from '../../../lib/errors.ts';
import type { OperationRecord } from '../../../store/types.ts';
import { defineCommand } from '../../command.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ operation: string }>({
  name: 'operation cancel',
  group: 'Operations',
  summary: 'Ask an operation to stop and to undo what it did',
  description: ['Returns at once. An operation that has passed its point of no return goes on to its end.'],
  args: [{ name: 'operation', completes: 'running operation', help: 'Its id (`veld operation list`)' }],
  examples: [['operation cancel 01K', 'Cancel']],
  errors: ['operation.not_found', 'operation.committed'],
  json: 'the operation',
  async run(context, { operation }) {
    const record = await (await context.client()).request<OperationRecord>('DELETE', `/v1/operations/${segment(operation)}`);
    if (record.state !== 'running' && record.state !== 'cancelled') {
      throw new VeldError('operation.committed', `Operation ${operation} has ended already: ${record.state}.`, { hint: 'There is nothing left to cancel.' });
    }
    if (context.json) context.printJson(record);
    else if (record.state === 'cancelled') context.out(`${operation} is cancelled already\n`);
    else context.out(`${operation} is being cancelled\n`);
  },
});
