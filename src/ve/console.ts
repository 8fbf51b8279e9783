/** `console`: what the VE's init shows on its console, and keys for it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Writable } from 'node:stream';
import { VeldError } from '../lib/errors.ts';
import { openConsoleMaster, type ConsoleMaster } from '../kernel/console-master.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { tailConsole } from './console-tail.ts';
import { consoleLogFile } from './logs.ts';
import { monitorOf } from './monitor.ts';
import { isConsoleLent, readRunState } from './run-folder.ts';
import type { ConsoleRequest, ExecSession, VeStatus } from './types.ts';
import { viewVe } from './view.ts';

/** Between two looks at the VE, in milliseconds. */
const LOOK = 500;
/** How long keys wait for a reader whose queue is full, and how often that is tried, in milliseconds. */
const PATIENCE = 2_000;
const RETRY = 20;
/** Lines of the log that an attachment begins with. */
const LINES = 20;

/** States in which a console is there or comes back by itself (a reboot, a restart). */
const ATTACHED: readonly VeStatus[] = ['running', 'frozen', 'starting', 'stopping'];

/**
 * Attach to the console. Any number of clients may: all see the same, all type into the same. It goes on over reboots, and ends with status 0 when
 * the VE has stopped or is suspended, or, with `wait`, only when the client goes or the VE is destroyed.
 * @throws VeldError `ve.not_running` for a stopped VE without `wait`
 */
export async function attachConsole(context: VeContext, ve: VeRecord, request: ConsoleRequest): Promise<ExecSession> {
  const { settings, store } = context;
  const status = (): VeStatus | undefined => {
    const record = store.veByUuid(ve.uuid);
    return record && viewVe(context, record).status;
  };
  const first = status();
  if (request.wait !== true && !ATTACHED.includes(first!)) {
    throw new VeldError('ve.not_running', `${ve.name} is ${first ?? 'gone'}.`, { hint: 'Start it, or wait for its next boot: `veld console --wait NAME`.' });
  }
  const { promise: exit, resolve } = Promise.withResolvers<number>();
  const stdout = tailConsole(consoleLogFile(settings, ve.uuid), request.tail ?? LINES);
  const { name } = ve;
  let size = request.size;
  /** Pid and start time of the init whose console has the size, and of the one whose silence was told of. */
  let sized = '';
  let told = '';
  /** Whoever attaches to a VE that is up hears at once that nobody listens; who watches a boot only when they type. */
  let greeted = first !== 'running';
  const over = new AbortController();

  const bootId = (): string => {
    const { init } = readRunState(settings, ve.number);
    return init ? `${init.pid} ${init.startTime}` : '';
  };
  const withMaster = async <T>(work: (master: ConsoleMaster) => T | Promise<T>): Promise<T | undefined> => {
    const monitor = monitorOf(settings, ve.number);
    const master = monitor && openConsoleMaster(monitor);
    if (!master) return undefined;
    try {
      return await work(master);
    } finally {
      master.close();
    }
  };
  const notice = (text: string): void => stdout.say(`\r\n[veld: ${text}]\r\n`);
  const tellSilence = (boot: string): void => {
    if (told === boot) return;
    told = boot;
    notice(`nothing in ${name} listens on its console; \`veld enter ${name}\` opens a shell, and docs/how-to/terminals.md says how to get a login prompt here`);
  };
  const applySize = async (boot: string): Promise<void> => {
    if (!size || boot === '' || sized === boot) return;
    const { columns, rows } = size;
    sized = boot;
    await withMaster((master) => master.resize(columns, rows));
  };
  const end = (): void => {
    if (over.signal.aborted) return;
    over.abort();
    clearInterval(timer);
    stdout.finish();
    resolve(0);
  };

  let waiting = !ATTACHED.includes(first!);
  const look = async (): Promise<void> => {
    if (over.signal.aborted) return;
    stdout.look();
    const now = status();
    if (now === undefined) {
      notice(`${name} was destroyed`);
      return end();
    }
    if (ATTACHED.includes(now)) {
      waiting = false;
      await applySize(bootId());
      if (now === 'running' && !greeted) await withMaster((master) => { if (!master.held()) tellSilence(bootId()); });
      greeted = true;
    } else if (request.wait !== true) {
      stdout.look();
      notice(now === 'suspended' ? `${name} is suspended` : `${name} has stopped`);
      end();
    } else if (!waiting) {
      waiting = true;
      stdout.look();
      notice(now === 'suspended' ? `${name} is suspended; waiting until it is resumed` : `${name} has stopped; waiting for its next boot`);
    }
  };
  const timer = setInterval(() => {
    look().catch((error: unknown) => {
      context.log.warn({ ve: ve.uuid, err: error }, 'a console could not be looked at');
      end();
    });
  }, LOOK);

  const type = async (keys: Buffer): Promise<void> => {
    let left = keys;
    const until = performance.now() + PATIENCE;
    await withMaster(async (master) => {
      while (left.length > 0 && !over.signal.aborted) {
        if (!master.held()) return tellSilence(bootId());
        if (isConsoleLent(settings, ve.number)) return master.typeApart(left, PATIENCE);
        left = left.subarray(master.type(left));
        if (left.length === 0 || performance.now() > until) return;
        await sleep(RETRY);
      }
    });
  };
  const stdin = new Writable({
    write(keys: Buffer, _encoding, done) {
      void (async () => {
        await type(keys).catch(() => {}); // a console that has gone takes no keys: they are lost, as on a real line
        done();
      })();
    },
  });

  if (waiting) notice(`waiting for ${name} to boot`);
  else await applySize(bootId());
  return {
    stdin, stdout, stderr: null, exit,
    resize(columns, rows) {
      size = { columns, rows };
      sized = '';
      void applySize(bootId());
    },
    kill: end,
  };
}
