/** What every command's action gets: the streams, the way of showing things, and the daemon's client (made when first asked for). */
import type { Client } from '../client/client.ts';
import { VeldError } from '../lib/errors.ts';

export interface Context {
  /** `--json` was given. */
  readonly json: boolean;
  /** Path of the daemon's socket. */
  readonly socket: string;
  /** Name of the node that is meant; undefined for this one. */
  readonly node: string | undefined;
  /** Write to standard output. */
  out(text: string): void;
  /** Write to standard error. */
  err(text: string): void;
  /** One JSON document on standard output. */
  printJson(value: unknown): void;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  /** Columns of the terminal, or Infinity when standard output is none. */
  readonly width: number;
  /** Whether standard output takes colours. */
  readonly colour: boolean;
  /** The API's client. */
  client(): Promise<Client>;
}

export interface ContextOptions {
  json: boolean;
  socket: string | undefined;
  /** Another node whose API is meant. */
  node?: string | undefined;
}

/**
 * The context of this process. Nothing is opened or looked at before it is needed.
 * @throws VeldError `usage` for a socket without a path
 */
export function createContext(options: ContextOptions): Context {
  if (options.socket === '') throw new VeldError('usage', '--socket needs a path.');
  if (options.node === '') throw new VeldError('usage', '--node needs a name.');
  let client: Promise<Client> | undefined;
  let socket: Promise<string> | undefined;
  let known = options.socket ?? (process.env.VELD_SOCKET || undefined);
  const findSocket = (): Promise<string> => socket ??= (async () => {
    if (known === undefined) {
      const { loadSettings } = await import('../lib/settings.ts');
      known = loadSettings().socket;
    }
    return known;
  })();
  return {
    json: options.json,
    get socket() { return known ?? ''; },
    node: options.node,
    out: (text) => { process.stdout.write(text); },
    err: (text) => { process.stderr.write(text); },
    printJson: (value) => { process.stdout.write(`${JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined)}\n`); },
    get outIsTerminal() { return process.stdout.isTTY; },
    get errIsTerminal() { return process.stderr.isTTY; },
    get width() { return process.stdout.isTTY ? process.stdout.columns || 80 : Infinity; },
    get colour() { return process.stdout.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb'; },
    client: () => client ??= (async () => {
      const path = await findSocket();
      const { createClient } = await import('../client/client.ts');
      return createClient(path, options.node);
    })(),
  };
}
