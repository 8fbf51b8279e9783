/** `veld console` */
import { Transform } from 'node:stream';
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import { ownTerminal, runSession } from '../session.ts';
import { parseCount } from '../values.ts';

interface Options {
  tail?: number;
  wait?: boolean;
  /** Code of the key; 0 for none. */
  detachKey?: number;
}

/** Ctrl-], as with telnet and virsh. */
const DETACH = 0x1d;

export const command = defineCommand<{ ve: string }, Options>({
  name: 'console',
  group: 'Looking at VEs',
  summary: 'Attach to the console of a VE\'s init',
  description: [
    'Shows the last lines of the console\'s log, then what comes, and passes keys on. Ctrl-] detaches; the VE goes on. Several may be attached at once. The console goes on over reboots; when the VE has stopped or is suspended the command ends, or waits with --wait.',
    'A login prompt is there when something in the VE offers one; templates of Veld with systemd do not: see docs/how-to/terminals.md. `veld enter` needs none, `veld logs` shows older lines.',
  ],
  args: [{ name: 've', help: 'Name, number or UUID' }],
  options: [
    { flags: '-w, --wait', help: 'Also a VE that is stopped: wait for its boot, and again after each end' },
    { flags: '-n, --tail <lines>', help: 'How many lines of the log come first; default 20', parse: parseCount },
    { flags: '--detach-key <key>', help: 'ctrl-A to ctrl-Z, ctrl-], ctrl-\\, ctrl-^, ctrl-_, or none; default ctrl-]', parse: parseKey },
  ],
  examples: [
    ['console web', 'Watch and type; Ctrl-] leaves'],
    ['console --wait web', 'From its next boot on'],
    ['console --detach-key ctrl-t web', 'Where Ctrl-] is needed inside'],
  ],
  errors: ['ve.not_found', 've.not_running', 'session.invalid'],
  async run(context, { ve }, { tail, wait, detachKey = DETACH }) {
    const tty = ownTerminal();
    const client = await context.client();
    const session = await client.session(ve, 'console', {
      ...(tail !== undefined && { tail }), ...(wait && { wait }), ...(tty && { size: { columns: tty.columns, rows: tty.rows } }),
    }, true);
    if (tty === null) return runSession(context, session, { tty: false, input: true });
    if (context.errIsTerminal) context.err(detachKey === 0 ? 'Attached.\n' : `Attached; ${keyName(detachKey)} detaches.\n`);
    let detached = false;
    const stdin = detachKey === 0 ? session.stdin : detacher(detachKey, () => {
      detached = true;
      session.kill('SIGHUP');
    });
    if (stdin !== session.stdin) stdin.pipe(session.stdin);
    const status = await runSession(context, { ...session, stdin }, { tty: true, input: true });
    if (detached && context.errIsTerminal) context.err('\r\nDetached.\n');
    return status;
  },
});

/** Passes keys on until the one that detaches. */
function detacher(key: number, detach: () => void): Transform {
  let gone = false;
  return new Transform({
    transform(keys: Buffer, _encoding, done) {
      if (gone) return done();
      const at = keys.indexOf(key);
      if (at === -1) return done(null, keys);
      gone = true;
      this.push(keys.subarray(0, at));
      detach();
      done();
    },
  });
}

function keyName(code: number): string {
  return `Ctrl-${String.fromCharCode(code + 64)}`;
}

/** The code of `ctrl-X`: that of the letter without its upper bits (ASCII). */
function parseKey(text: string): number {
  if (text === 'none') return 0;
  const letter = /^(?:ctrl-|\^)([a-z\]\\^_])$/i.exec(text)?.[1];
  // Ctrl-M and Ctrl-J are the Return key.
  if (letter === undefined || /[mj]/i.test(letter)) throw new VeldError('usage', `'${text}' is not a key such as ctrl-] or ctrl-t, and not none.`);
  return letter.toUpperCase().charCodeAt(0) - 64;
}
