/**
 * libnftables (libnftables(3)) through koffi: what nft(8) does, without a process for each of its runs.
 *
 * Why these calls are safe:
 * - Prototypes are those of nftables/libnftables.h, which have been the same in all versions with this soname (0.9 to 1.1).
 * - There is one context, made at the first call and kept, so that its socket belongs to the network namespace of this process, whichever thread calls, and later calls need no descriptor:
 *   the library ends the process when it cannot open one. It is used by one call at a time; a context is for one thread.
 * - Commands are copied by koffi into memory of its own for as long as the call takes, and what the buffers hold is copied before the next call.
 * - Calls that talk to the kernel run on a thread of koffi's, so the daemon goes on meanwhile.
 */
import { createRequire } from 'node:module';
import type KoffiModule from 'koffi';
import { text } from './native.ts';

/** `NFT_CTX_OUTPUT_JSON` of nftables/libnftables.h. */
const OUTPUT_JSON = 1 << 4;

interface Library {
  context: unknown;
  setOutput: (context: unknown, flags: number) => void;
  setDryRun: (context: unknown, dry: boolean) => void;
  run: { async: (context: unknown, commands: string, done: (error: Error | null, result: number) => void) => void };
  output: (context: unknown) => string | null;
  error: (context: unknown) => string | null;
}

let library: Library | undefined;
let last: Promise<unknown> = Promise.resolve();

/** @throws Error where the library is not installed */
function load(): Library {
  if (library !== undefined) return library;
  const koffi = createRequire(import.meta.url)('koffi') as typeof KoffiModule;
  const lib = koffi.load('libnftables.so.1');
  const context: unknown = lib.func('void *nft_ctx_new(uint32_t flags)')(0);
  if (context === null) throw new Error('libnftables gives no context');
  // What it says goes to memory, never to this process's standard output. They fail for want of memory only.
  for (const call of ['nft_ctx_buffer_output', 'nft_ctx_buffer_error']) {
    if (lib.func(call, 'int', ['void *'])(context) !== 0) throw new Error(`${call} failed`);
  }
  library = {
    context,
    setOutput: lib.func('void nft_ctx_output_set_flags(void *ctx, unsigned int flags)'),
    setDryRun: lib.func('void nft_ctx_set_dry_run(void *ctx, bool dry)'),
    run: lib.func('int nft_run_cmd_from_buffer(void *ctx, const char *buf)'),
    output: lib.func('const char *nft_ctx_get_output_buffer(void *ctx)'),
    error: lib.func('const char *nft_ctx_get_error_buffer(void *ctx)'),
  };
  return library;
}

export interface NftAnswer {
  /** Whether all of it was done. */
  done: boolean;
  /** What nft(8) would have written to its standard output and its standard error. */
  output: string;
  error: string;
}

/**
 * Carry out commands in nft's language, as one transaction, after those that were asked for before.
 * @param options.json answer in the format of libnftables-json(5)
 * @param options.check try it, and change nothing
 * @throws Error where the library is not installed
 */
export function runNft(commands: string, options: { json?: boolean; check?: boolean } = {}): Promise<NftAnswer> {
  const turn = last.then(() => runNow(commands, options));
  last = turn.catch(() => {});
  return turn;
}

async function runNow(commands: string, { json = false, check = false }: { json?: boolean; check?: boolean }): Promise<NftAnswer> {
  const { context, setOutput, setDryRun, run, output, error } = load();
  setOutput(context, json ? OUTPUT_JSON : 0);
  setDryRun(context, check);
  const result = await new Promise<number>((resolve, reject) => {
    run.async(context, text(commands), (failure, value) => (failure ? reject(failure) : resolve(value)));
  });
  return { done: result === 0, output: output(context) ?? '', error: error(context) ?? '' };
}
