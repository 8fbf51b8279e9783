/** `veld doctor` */
import { toVeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import { wrap } from '../help.ts';
import { sanitise } from '../show/text.ts';

/** One check, as GET /v1/doctor answers it. */
interface Check {
  id: string;
  title: string;
  status: 'ok' | 'warn' | 'fail' | 'info';
  message: string;
  consequence?: string;
  remedy?: string;
}

const MARKS = { ok: ['ok', 32], info: ['info', 36], warn: ['WARN', 33], fail: ['FAIL', 31] } as const;

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'doctor',
  group: 'This node',
  summary: 'Check whether this node can run VEs, and say what is wrong',
  options: [{ flags: '-q, --quiet', help: 'Only warnings and failures' }],
  examples: [['doctor', 'All checks'], ['doctor -q && echo fit', 'In a script']],
  json: '{"checks": [...]}, each with id, title, status (ok, info, warn, fail), message, and perhaps consequence and remedy',
  exits: [['1', 'a check fails']],
  async run(context, _args, { quiet }) {
    const { checks } = await report(async () => (await context.client()).request<{ checks: Check[] }>('GET', '/v1/doctor'));
    const failed = checks.some((check) => check.status === 'fail');
    if (context.json) context.printJson({ checks });
    else {
      const shown = checks.filter((check) => !quiet || check.status === 'warn' || check.status === 'fail');
      const width = Math.min(context.width, 110);
      for (const check of shown) {
        const [mark, colour] = MARKS[check.status];
        const head = context.colour ? `\x1b[${colour}m${mark.padEnd(4)}\x1b[39m` : mark.padEnd(4);
        context.out(`${head}  ${wrap(sanitise(`${check.title}: ${check.message}`), width, '      ').trimStart()}`);
        if (check.consequence !== undefined) context.out(wrap(sanitise(check.consequence), width, '      '));
        if (check.remedy !== undefined) context.out(wrap(sanitise(`Remedy: ${check.remedy}`), width, '      '));
      }
    }
    return failed ? 1 : 0;
  },
});

/** A daemon that does not answer is the first thing that can be wrong. */
async function report(ask: () => Promise<{ checks: Check[] }>): Promise<{ checks: Check[] }> {
  try {
    return await ask();
  } catch (thrown) {
    const error = toVeldError(thrown);
    if (error.code !== 'daemon.unreachable') throw error;
    return { checks: [{ id: 'daemon', title: 'Daemon', status: 'fail', message: error.message, remedy: error.hint }] };
  }
}
