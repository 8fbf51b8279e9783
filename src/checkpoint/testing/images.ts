/** Images as criu writes them, by hand. Formats: protobuf.dev, "Encoding"; criu.org, "Images". */
import { varint } from '../protobuf.ts';

/** A field with a number. */
export function number(field: number, value: number): Buffer {
  return Buffer.concat([varint(BigInt(field << 3)), varint(BigInt(value))]);
}

/** A field with a message, or a text. */
export function message(field: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([varint(BigInt((field << 3) | 2)), varint(BigInt(content.length)), content]);
}

/** Two magic numbers, and each message behind its length. */
export function image(...messages: Buffer[]): Buffer {
  return Buffer.concat([Buffer.alloc(8, 7), ...messages.flatMap((one) => [Buffer.from(Uint32Array.of(one.length).buffer), one])]);
}
