/**
 * Just enough of Protocol Buffers to change numbers and strings in a message whose other fields are none of our business: those are kept as they are, to
 * the byte. Format: protobuf.dev, "Encoding".
 */

/**
 * What becomes of a field: a number or string by a function (a number without an answer is left out), a message by the fields in it, each by its number
 * (where `keep` does not want it, it is left out); or nothing.
 */
export type Change = { number: (value: number) => number | undefined } | { text: (value: string) => string } | { message: Changes; keep?: (message: Buffer) => boolean } | 'left out';
export type Changes = Readonly<Record<number, Change>>;

const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;

/**
 * A message with some of its fields changed.
 * @throws RangeError for what is not a message
 */
export function changeMessage(message: Uint8Array, changes: Changes): Buffer {
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  const parts: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length) {
    const from = at;
    const [key, afterKey] = readVarint(bytes, at);
    const change = changes[Number(key >> 3n)];
    const wire = Number(key & 7n);
    at = afterKey;
    if (wire === VARINT) {
      const [value, after] = readVarint(bytes, at);
      at = after;
      if (change === 'left out') continue;
      if (change && 'number' in change) {
        const changed = change.number(Number(value));
        if (changed !== undefined) parts.push(bytes.subarray(from, afterKey), varint(BigInt(changed)));
        continue;
      }
    } else if (wire === BYTES) {
      const [length, start] = readVarint(bytes, at);
      at = start + Number(length);
      if (at > bytes.length) throw new RangeError('a field of the message is cut off');
      if (change === 'left out') continue;
      if (change && !('number' in change)) {
        const content = bytes.subarray(start, at);
        if ('keep' in change && !change.keep?.(content)) continue;
        const changed = 'text' in change ? changeText(content, change.text) : changeMessage(content, change.message);
        parts.push(bytes.subarray(from, afterKey), varint(BigInt(changed.length)), changed);
        continue;
      }
    } else if (wire === FIXED64) at += 8;
    else if (wire === FIXED32) at += 4;
    else throw new RangeError(`there is no wire type ${wire}`);
    if (at > bytes.length) throw new RangeError('a field of the message is cut off');
    parts.push(bytes.subarray(from, at));
  }
  return Buffer.concat(parts);
}

/** A text that stays the same stays so to the byte: names of files need not be UTF-8. */
function changeText(content: Buffer, change: (text: string) => string): Buffer {
  const text = content.toString('utf8');
  const changed = change(text);
  return changed === text ? content : Buffer.from(changed);
}

/** The strings that a field of a message holds, in their order. @throws RangeError for what is not a message */
export function textsOf(message: Uint8Array, field: number): string[] {
  const found: string[] = [];
  changeMessage(message, { [field]: { text: (text) => (found.push(text), text) } });
  return found;
}

function readVarint(bytes: Buffer, from: number): [value: bigint, after: number] {
  let value = 0n;
  for (let at = from, shift = 0n; at < bytes.length && shift < 70n; at++, shift += 7n) {
    const byte = bytes[at]!;
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return [value, at + 1];
  }
  throw new RangeError('a number of the message is cut off');
}

/** A number that is not negative, in the shortest form. */
export function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    if (rest < 0x80n) {
      bytes.push(Number(rest));
      return Buffer.from(bytes);
    }
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
}
