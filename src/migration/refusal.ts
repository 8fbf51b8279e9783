/** Errors on their way from one node to the other. */
import { ERRORS, toVeldError, VeldError } from '../lib/errors.ts';
import { plain } from './forms.ts';
import type { Refuse } from './types.ts';

/** Say why something is not done. */
export function refuse(error: unknown): Refuse {
  const { code, message, hint } = toVeldError(error);
  return { type: 'refuse', error: { code, message, hint } };
}

/** What the other node has said, as an error of ours: codes that this version does not know are `migration.refused`. */
export function refusal({ error }: Refuse): VeldError {
  const { code, message, hint }: Record<string, unknown> = typeof error === 'object' && error !== null ? error : {};
  const known = typeof code === 'string' && Object.hasOwn(ERRORS, code) && code !== 'internal' ? code as keyof typeof ERRORS : 'migration.refused';
  return new VeldError(known, `The other node says: ${plain(message) || 'it did not say why'}`, { ...plain(hint, 500) !== '' && { hint: plain(hint, 500) } });
}
