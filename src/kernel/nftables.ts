/** Door to nftables: transactions and listings. */
import { VeldError } from '../lib/errors.ts';
import { runNft, type NftAnswer } from './libnftables.ts';

/**
 * Carry out commands as one transaction: all of them or none.
 * @param script in nft's language
 * @throws VeldError `network.failed` with what nft said
 */
export async function nftApply(script: string): Promise<void> {
  const { done, error } = await ask(script);
  if (!done) throw new VeldError('network.failed', `The firewall rules could not be loaded: ${firstLine(error)}`, { details: { stderr: error.slice(0, SAID_LIMIT) } });
}

/**
 * Whether a chain is there, for the price of one small message: every listing reads all chains and rules of all tables first. Tries,
 * without doing it (`--check`), to add a rule.
 * @throws VeldError `network.failed`
 */
export async function nftChainExists(family: string, table: string, chain: string): Promise<boolean> {
  return nftChainsExist([`${family} ${table} ${chain}`]);
}

/**
 * The same for several at once: whether all of them are there.
 * @param chains `FAMILY TABLE CHAIN` each
 */
export async function nftChainsExist(chains: readonly string[]): Promise<boolean> {
  const { done, error } = await ask(chains.map((chain) => `add rule ${chain} accept\n`).join(''), { check: true });
  if (!done && !NOT_THERE.test(error)) throw unreadable(error);
  return done;
}

/** One object of `nft -j`: a single key that names its kind. */
export type NftObject = Record<string, Record<string, unknown> | undefined>;

/**
 * List something as objects (libnftables-json(5)), or undefined when it does not exist.
 * @param args e.g. `'list', 'set', 'inet', 'table', 'set'`
 */
export async function nftList(...args: string[]): Promise<NftObject[] | undefined> {
  const { done, output, error } = await ask(args.join(' '), { json: true });
  if (!done) {
    if (NOT_THERE.test(error)) return undefined;
    throw unreadable(error);
  }
  return (JSON.parse(output) as { nftables: NftObject[] }).nftables;
}

const NOT_THERE = /No such file or directory/;

/** What is kept of what nft says, in characters: it repeats the line that it does not like. */
const SAID_LIMIT = 2000;

async function ask(commands: string, options?: { json?: boolean; check?: boolean }): Promise<NftAnswer> {
  try {
    return await runNft(commands, options);
  } catch (error) {
    throw new VeldError('network.failed', `nftables could not be asked: ${(error as Error).message}`, { cause: error, hint: 'Install the package nftables.' });
  }
}

function unreadable(said: string): VeldError {
  return new VeldError('network.failed', `The firewall could not be read: ${firstLine(said)}`);
}

function firstLine(said: string): string {
  return said.trim().split('\n')[0]!.slice(0, SAID_LIMIT);
}
