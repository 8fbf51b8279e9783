/** Asks a person a yes-or-no question. */
import type { Context } from './context.ts';

/** @returns whether the answer began with `y`; anything else, the end of input included, is no */
export async function confirm(context: Pick<Context, 'err'>, question: string): Promise<boolean> {
  const { createInterface } = await import('node:readline');
  const reader = createInterface({ input: process.stdin, terminal: false });
  context.err(`${question} [y/N] `);
  try {
    for await (const line of reader) return /^\s*y/i.test(line);
    return false;
  } finally {
    reader.close();
  }
}
