/**
 * `veld __complete WORD...`: answers a shell's completion.
 *
 * The first line says how the rest is meant: `:`, then `files` or `open` or nothing. Then one proposal a line: the word, a tab, and what it
 * is. Errors are silence: whoever presses the tab key wants no message in the middle of a line.
 */
import { readFileSync } from 'node:fs';
import type { Client } from '../../client/client.ts';
import { createContext } from '../context.ts';
import { sanitise } from '../show/text.ts';
import { loadAllCommands } from '../table.ts';
import { propose } from './propose.ts';

/** How long the daemon may take for its names, in milliseconds: a shell that hangs is worse than one that does not know. */
const PATIENCE = 2000;

/** @param words all after `veld`, the last as far as it is typed @param socket of the daemon, when one was named before them */
export async function answerShell(words: readonly string[], socket: string | undefined): Promise<number> {
  const named = words.includes('--socket') ? words[words.indexOf('--socket') + 1] : words.find((word) => word.startsWith('--socket='))?.slice('--socket='.length);
  const ask = async <T>(path: string): Promise<T[]> => {
    let timer: NodeJS.Timeout | undefined;
    try {
      const client: Client = await createContext({ json: false, socket: named || socket }).client();
      const late = new Promise<T[]>((resolve) => { timer = setTimeout(resolve, PATIENCE, []); });
      return await Promise.race([client.request<T[]>('GET', path), late]);
    } catch {
      return [];
    } finally {
      clearTimeout(timer);
    }
  };
  try {
    const { proposals, files, open } = await propose(words, await loadAllCommands(), {
      ves: () => ask('/v1/ves'), templates: () => ask('/v1/templates'), operations: () => ask('/v1/operations?limit=50'),
    });
    const lines = proposals.map(({ value, help }) => `${value}\t${sanitise(help).replaceAll(/\s+/g, ' ')}\n`);
    process.stdout.write(`:${files ? 'files' : open ? 'open' : ''}\n${lines.join('')}`);
  } catch {
    // Silence.
  }
  return 0;
}

/** The script that binds a shell to this. */
export function completionScript(shell: string): string {
  return readFileSync(new URL(`../../../share/completion/veld.${shell}`, import.meta.url), 'utf8');
}
