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

/** @param words all after `veld`, the last as far as it is typed @param leading socket of the daemon and the node, when they were named before them */
export async function answerShell(words: readonly string[], leading: { socket: string | undefined; node: string | undefined }): Promise<number> {
  const named = (option: string): string | undefined => words.includes(option) ? words[words.indexOf(option) + 1] : words.find((word) => word.startsWith(`${option}=`))?.slice(option.length + 1);
  const socket = named('--socket') || leading.socket;
  const elsewhere = named('--node') || leading.node || process.env.VELD_NODE || undefined;
  const askNode = async <T>(path: string, node: string | undefined): Promise<T[]> => {
    let timer: NodeJS.Timeout | undefined;
    try {
      const client: Client = await createContext({ json: false, socket, node }).client();
      const late = new Promise<T[]>((resolve) => { timer = setTimeout(resolve, PATIENCE, []); });
      return await Promise.race([client.request<T[]>('GET', path), late]);
    } catch {
      return [];
    } finally {
      clearTimeout(timer);
    }
  };
  const ask = <T>(path: string): Promise<T[]> => askNode(path, elsewhere);
  const askHere = <T>(path: string): Promise<T[]> => askNode(path, undefined);
  try {
    const { proposals, files, open } = await propose(words, await loadAllCommands(), {
      ves: () => ask('/v1/ves'), templates: () => ask('/v1/templates'), operations: () => ask('/v1/operations?limit=50'), nodes: () => askHere('/v1/nodes'), presets: () => ask('/v1/presets'), recipes: () => ask('/v1/recipes'), pools: () => ask('/v1/pools'), repositories: () => ask('/v1/repositories'),
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
