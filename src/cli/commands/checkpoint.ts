/** `veld checkpoint` */
import { VeldError } from '../../lib/errors.ts';
import type { Obstacle } from '../../checkpoint/types.ts';
import { defineCommand } from '../command.ts';
import { sanitise } from '../show/text.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string }, { check?: boolean }>({
  name: 'checkpoint',
  group: 'Checkpoints',
  summary: 'Say whether a VE can be suspended now, and what is in the way',
  description: ['Looks at all processes of the VE from outside and changes nothing. The exit status is 0 when nothing is in the way, and that of `checkpoint.refused` when something is.'],
  args: [{ name: 've', completes: 'running ve', help: 'Name, number or UUID' }],
  options: [{ flags: '--check', help: 'Look only', mandatory: true }],
  examples: [['checkpoint --check web', 'Can it be suspended?']],
  errors: ['ve.not_found', 've.not_running', 've.frozen', 've.suspended', 'checkpoint.refused'],
  json: 'an array of obstacles: kind, process, text, remedy',
  async run(context, { ve }) {
    const client = await context.client();
    const obstacles = await client.request<Obstacle[]>('GET', `/v1/ves/${segment(ve)}/obstacles`);
    if (context.json) context.printJson(obstacles);
    else if (obstacles.length === 0) context.out(`${ve} can be suspended.\n`);
    else for (const { text, remedy } of obstacles) context.out(`${sanitise(text)}\n  ${sanitise(remedy)}\n`);
    return obstacles.length === 0 ? 0 : new VeldError('checkpoint.refused', '').exit;
  },
});
