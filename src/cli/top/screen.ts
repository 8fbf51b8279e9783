/** `veld top` on a terminal: a picture drawn over itself, keys, and the way back to the shell's own screen. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../../client/client.ts';
import { toVeldError } from '../../lib/errors.ts';
import type { Context } from '../context.ts';
import { rawTerminal } from '../raw-terminal.ts';
import { truncate } from '../show/table.ts';
import { sanitise } from '../show/text.ts';
import type { Order, View } from './views.ts';

/** Another screen, without cursor, and what is too wide is cut. */
const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l';
const LEAVE = '\x1b[?7h\x1b[?25h\x1b[?1049l';
const CTRL_C = '\x03';
/** Lines around the table: summary, an empty one, the keys. */
const FRAME = 3;
/** The first rates come soon, whatever the interval. Milliseconds. */
const FIRST = 1000;

export interface ScreenOptions {
  order: Order;
  /** Milliseconds between two samples. */
  interval: number;
  /** End after this many pictures with rates. */
  iterations: number;
}

/**
 * Show a view until `q`, Ctrl-C, or as many pictures as asked for. A daemon that goes away in the middle is waited for.
 * @throws VeldError when the first sample fails
 */
export async function showScreen(context: Context, client: Client, view: View, { order, interval, iterations }: ScreenOptions): Promise<void> {
  await view.sample(client); // an error now is the command's own, on the usual screen
  const { stdin, stdout } = process;
  const restore = rawTerminal(stdin, stdout);
  let offset = 0;
  let trouble = '';
  let wake = new AbortController();
  let left = false;

  const draw = (): void => {
    const [width, height] = [stdout.columns || 80, stdout.rows || 24];
    const table = view.table(order, { width, colour: context.colour }).split('\n').slice(0, -1);
    const room = Math.max(1, height - FRAME - 1);
    offset = Math.max(0, Math.min(offset, table.length - 1 - room));
    const rows = table.slice(1 + offset, 1 + offset + room);
    const hidden = table.length - 1 - rows.length;
    const keys = `q quit  R reverse  ${view.sorts.map(({ key, name }) => `${key} ${name}`).join('  ')}${hidden > 0 ? `  (${hidden} more: arrows)` : ''}`;
    const lines = [truncate(trouble || view.summary(), width), '', table[0] ?? '', ...rows];
    // The last line without a line feed, which would scroll.
    context.out(`\x1b[H${lines.map((line) => `${line}\x1b[K\r\n`).join('')}\x1b[J\x1b[${height};1H${truncate(keys, width - 1)}\x1b[K`);
  };
  const onKey = (data: Buffer): void => {
    for (const key of data.toString('latin1').match(/\x1b\[[0-9;]*[A-Za-z~]|[^]/g) ?? []) { // eslint-disable-line no-control-regex
      const sort = view.sorts.find((each) => each.key === key);
      if (key === 'q' || key === CTRL_C) left = true;
      else if (key === 'R') order.reverse = !order.reverse;
      else if (key === '\x1b[A') offset -= 1;
      else if (key === '\x1b[B') offset += 1;
      else if (key === '\x1b[5~') offset -= stdout.rows - FRAME - 1;
      else if (key === '\x1b[6~') offset += stdout.rows - FRAME - 1;
      else if (sort) order.sort = sort.name;
    }
    if (left) wake.abort();
    else draw();
  };
  const onEnd = (): void => {
    left = true;
    wake.abort();
  };

  context.out(ENTER);
  stdin.on('data', onKey).once('end', onEnd).resume();
  stdout.on('resize', draw);
  try {
    draw();
    for (let shown = 0; shown < iterations; shown += 1) {
      wake = new AbortController();
      if (!left) await sleep(shown === 0 ? Math.min(interval, FIRST) : interval, undefined, { signal: wake.signal }).catch(() => {});
      if (left) return; // eslint-disable-line typescript/no-unnecessary-condition -- keys change it
      try {
        await view.sample(client);
        trouble = '';
      } catch (error) {
        trouble = `${sanitise(toVeldError(error).message)} Trying again.`;
      }
      draw();
    }
  } finally {
    stdin.off('data', onKey).off('end', onEnd).pause();
    stdout.off('resize', draw);
    context.out(LEAVE);
    restore();
  }
}
