/** `veld doctor --bundle`: says what it does, and makes do with what answers. */
import { resolve } from 'node:path';
import { toVeldError } from '../../lib/errors.ts';
import { defaultSettings, loadSettings, type Settings } from '../../lib/settings.ts';
import type { Client } from '../../client/client.ts';
import type { Context } from '../context.ts';
import { truncate } from '../show/table.ts';
import { formatBytes } from '../show/text.ts';
import { bundleItems } from './items.ts';
import { writeBundle } from './write-bundle.ts';

/** How long the daemon may take for its first word, in milliseconds. One that takes longer counts as down. */
const PATIENCE = 5000;

/** Write the bundle and tell of it. @throws VeldError as `writeBundle` */
export async function writeSupportBundle(context: Context, file: string, { force, consoleLogs }: { force: boolean; consoleLogs: boolean }): Promise<void> {
  const notes: string[] = [];
  const settings = settingsOrDefaults(notes);
  const client = await context.client().catch(async (error: unknown) => {
    notes.push(toVeldError(error).message);
    return (await import('../../client/client.ts')).createClient(settings.socket);
  });
  const trouble = await troubleWith(client);
  notes.push(trouble === undefined ? 'The daemon answers.' : `THE DAEMON DOES NOT ANSWER: ${trouble}`);
  if (process.geteuid?.() !== 0) notes.push('Not made by root: what only root may read is missing.');
  if (consoleLogs) notes.push('Holds what VEs wrote to their consoles (--console-logs).');
  const path = resolve(file);
  const shown = context.errIsTerminal && !context.json;
  const { bytes, items } = await writeBundle(path, bundleItems({ settings, client, daemonUp: trouble === undefined, consoleLogs }), {
    force,
    preface: [
      `Support bundle of Veld, made ${new Date().toISOString()}.`, '', ...notes, '',
      'It holds names and addresses. Environments of commands, files of VEs and (without --console-logs) consoles are not gathered at all; what looks like a',
      'secret was taken out of the rest. Bytes and names of what is here:',
    ],
    ...shown && { onItem: (name: string) => context.err(`\r${truncate(`gathering ${name}`, (process.stderr.columns || 80) - 1)}\x1b[K`) },
  });
  if (shown) context.err('\r\x1b[K');
  const missing = items.filter(({ error }) => error !== undefined);
  if (context.json) context.printJson({ file: path, bytes, daemon: trouble === undefined, items });
  else {
    context.out(`${path}: ${formatBytes(bytes)}, ${items.length - missing.length} items${missing.length > 0 ? `; ${missing.length} could not be had (README.txt in it says why)` : ''}\n`);
    context.err(`veld: ${notes.join(' ')} Look through it before you give it away.\n`);
  }
}

/** Settings that cannot be read are a thing to report, not one to fail of. */
function settingsOrDefaults(notes: string[]): Settings {
  try {
    return loadSettings();
  } catch (error) {
    notes.push(`THE SETTINGS CANNOT BE READ, defaults were taken: ${toVeldError(error).message}`);
    return defaultSettings();
  }
}

async function troubleWith(client: Client): Promise<string | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolvePromise) => { timer = setTimeout(resolvePromise, PATIENCE, `silent for ${PATIENCE / 1000} s.`); });
  try {
    return await Promise.race([client.request('GET', '/v1').then(() => undefined, (error: unknown) => toVeldError(error).message), late]);
  } finally {
    clearTimeout(timer);
  }
}
