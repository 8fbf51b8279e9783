/** `veld doctor` */
import { VeldError, toVeldError } from '../../lib/errors.ts';
import { writeSupportBundle } from '../bundle/support.ts';
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

interface Options {
  quiet?: boolean;
  bundle?: string;
  force?: boolean;
  consoleLogs?: boolean;
}

export const command = defineCommand<object, Options>({
  name: 'doctor',
  group: 'This node',
  summary: 'Check whether this node can run VEs, and say what is wrong',
  description: [
    'With --bundle nothing is printed but a file written, for whoever is to help: the checks, logs, settings, versions, facts about kernel and network, records '
    + 'and states of VEs. It works while the daemon is down, too.',
    'It holds names and addresses; nothing from inside VEs, no environment of commands, and what looks like a password or a key is taken out. '
    + 'Look through it all the same before you give it away.',
  ],
  options: [
    { flags: '-q, --quiet', help: 'Only warnings and failures' },
    { flags: '-b, --bundle <file>', completes: 'file', help: 'Write a support archive, by its end .tar.gz, .tar.zst or .tar.xz; mode 0600' },
    { flags: '-f, --force', help: 'With --bundle: replace a file that is there' },
    { flags: '--console-logs', help: 'With --bundle: what the VEs wrote to their consoles, too, which may hold secrets of theirs' },
  ],
  examples: [
    ['doctor', 'All checks'], ['doctor -q && echo fit', 'In a script'], ['doctor --bundle /root/veld-support.tar.zst', 'Everything that somebody needs who is to help'],
  ],
  errors: ['command.failed'],
  json: '{"checks": [...]}, each with id, title, status (ok, info, warn, fail), message, and perhaps consequence and remedy; with --bundle the file, its bytes and items',
  exits: [['1', 'a check fails']],
  async run(context, _args, { quiet, bundle, force = false, consoleLogs = false }) {
    if (bundle !== undefined && context.node !== undefined) throw new VeldError('usage', 'doctor: --bundle gathers files of this host: it does not go with --node.', { hint: 'Run it on that node.' });
    if (bundle !== undefined) return writeSupportBundle(context, bundle, { force, consoleLogs });
    if (force || consoleLogs) throw new VeldError('usage', 'doctor: --force and --console-logs go with --bundle.', { hint: 'See `veld help doctor`.' });
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
