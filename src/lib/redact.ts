/** Values that may be logged or handed on: without secrets, bounded in depth and size. */

/** Keys whose values are never shown, at any depth. */
const SECRET_KEY = /pass(word|wd|phrase)?$|secret|token|authori[sz]ation|cookie|credential|private_?key|^session$|^env$|^stdin$/i;

/** Whether what stands under this key may be a secret. */
export function isSecretKey(key: string): boolean {
  return SECRET_KEY.test(key);
}

/** Longest text of one field, in characters: a line stays a line. */
const TEXT_LIMIT = 8192;
const DEPTH_LIMIT = 6;
const ENTRY_LIMIT = 200;

/**
 * A copy of `value` that may be logged: secrets replaced, errors as plain objects with stack and cause, long texts and deep trees cut.
 * @param value any value
 */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return value.length > TEXT_LIMIT ? `${value.slice(0, TEXT_LIMIT)}... (${value.length} characters)` : value;
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= DEPTH_LIMIT) return '[deep]';
  if (Array.isArray(value)) return value.slice(0, ENTRY_LIMIT).map((item) => redact(item, depth + 1));
  if (value instanceof Uint8Array) return `[${value.length} bytes]`;
  if (value instanceof Date) return value.toISOString();
  const copy: Record<string, unknown> = {};
  if (value instanceof Error) {
    copy.type = value.name;
    copy.message = redact(value.message, depth + 1);
    copy.stack = redact(value.stack, depth + 1);
    if (value.cause !== undefined) copy.cause = redact(value.cause, depth + 1);
  }
  for (const [key, item] of Object.entries(value).slice(0, ENTRY_LIMIT)) {
    // defineProperty: a key named __proto__ must stay a key
    const shown = isSecretKey(key) ? '[redacted]' : redact(item, depth + 1);
    Object.defineProperty(copy, key, { value: shown, enumerable: true, configurable: true, writable: true });
  }
  return copy;
}
