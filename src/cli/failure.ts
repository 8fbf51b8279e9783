/** How a command that failed says so. */
import { toVeldError } from '../lib/errors.ts';
import type { Context } from './context.ts';
import { sanitise } from './show/text.ts';

/**
 * Tell the error on standard error: `veld: MESSAGE` and a hint, or the ErrorBody as one line of JSON.
 * @returns the exit status of the error table
 */
export function reportFailure(context: Pick<Context, 'json' | 'err'>, thrown: unknown, subject?: string): number {
  const error = toVeldError(thrown);
  if (context.json) context.err(`${JSON.stringify(error.toBody())}\n`);
  else {
    context.err(`veld: ${subject === undefined ? '' : `${subject}: `}${sanitise(error.message)}\n`);
    if (error.hint) context.err(`Hint: ${sanitise(error.hint)}\n`);
    if (error.code === 'internal' && process.env.VELD_DEBUG) context.err(`${error.stack}\n${(error.cause as Error | undefined)?.stack ?? ''}\n`);
  }
  return error.exit;
}
