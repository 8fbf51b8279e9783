/** Door to nftables: transactions and listings through nft(8). */
import { VeldError } from '../lib/errors.ts';
import { run } from '../lib/run.ts';

/**
 * Carry out commands as one transaction: all of them or none.
 * @param script in nft's language
 * @throws VeldError `network.failed` with what nft said
 */
export async function nftApply(script: string): Promise<void> {
  try {
    await run('nft', ['-f', '-'], { input: script, timeout: 30_000 });
  } catch (error) {
    throw new VeldError('network.failed', `The firewall rules could not be loaded: ${(error as Error).message}`, { cause: error, details: detailsOf(error) });
  }
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
  const { code, stderr } = await run('nft', ['-c', '-f', '-'], { input: chains.map((chain) => `add rule ${chain} accept\n`).join(''), allow: [1], timeout: 30_000 });
  if (code !== 0 && !/No such file or directory/.test(stderr)) throw new VeldError('network.failed', `The firewall could not be read: ${stderr.trim().split('\n')[0]}`);
  return code === 0;
}

/** One object of `nft -j`: a single key that names its kind. */
export type NftObject = Record<string, Record<string, unknown> | undefined>;

/**
 * List something as objects (libnftables-json(5)), or undefined when it does not exist.
 * @param args e.g. `'list', 'set', 'inet', 'table', 'set'`
 */
export async function nftList(...args: string[]): Promise<NftObject[] | undefined> {
  const { code, stdout, stderr } = await run('nft', ['-j', ...args], { allow: [1], timeout: 30_000 });
  if (code !== 0) {
    if (/No such file or directory/.test(stderr)) return undefined;
    throw new VeldError('network.failed', `The firewall could not be read: ${stderr.trim().split('\n')[0]}`);
  }
  return (JSON.parse(stdout) as { nftables: NftObject[] }).nftables;
}

function detailsOf(error: unknown): Record<string, unknown> | undefined {
  return error instanceof VeldError ? error.details : undefined;
}
