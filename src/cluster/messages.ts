/** What nodes say to each other, as schemas: everything that comes in is held against them, whoever it comes from. */
import { Type, type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { VeldError } from '../lib/errors.ts';

const closed = { additionalProperties: false } as const;
/** Text of one line; what people are shown is made safe again where it is shown. */
const line = (maxLength: number) => Type.String({ maxLength, pattern: '^[^\\u0000-\\u001f\\u007f]*$' });
const number = Type.Integer({ minimum: 1, maximum: 1_000_000 });
/** Wide: a newer node may know rights that this one does not. */
const rights = Type.Array(Type.String({ pattern: '^[a-z][a-z-]{0,30}$' }), { maxItems: 32 });
const pem = Type.String({ maxLength: 4000, pattern: '^-----BEGIN CERTIFICATE-----\\n[A-Za-z0-9+/=\\n]+-----END CERTIFICATE-----\\n?$' });

/** Numbers of the node protocol. */
const Range = Type.Object({ min: number, max: number }, closed);

/** What a node says of itself. A newer node may say more: what is not known is left out. */
export const Facts = Type.Object({
  protocol: Type.Object({ min: number, max: number }),
  /** Of Veld. */
  version: line(64),
  /** Release of the kernel. */
  kernel: line(128),
  /** As uname(1) -m says it. */
  architecture: line(32),
  /** 2, or 1 for hosts whose controllers are hybrid. */
  cgroup: Type.Integer({ minimum: 1, maximum: 9 }),
  /** Fingerprint of the engine; null where there is none. */
  engine: Type.Union([line(64), Type.Null()]),
  /** Extensions of its processor, by their names in /proc/cpuinfo; older nodes do not tell. */
  processor: Type.Optional(Type.Array(line(32), { maxItems: 1024 })),
  /** First uid and number of uids of the node's block. */
  uids: Type.Object({ base: Type.Integer({ minimum: 0, maximum: 0xffff_ffff }), count: Type.Integer({ minimum: 0, maximum: 0xffff_ffff }) }),
  /** What else it can do. */
  capabilities: Type.Array(line(32), { maxItems: 64 }),
  /** What the other may do there. */
  allow: rights,
  /** Its clock when it wrote this, milliseconds since 1970. */
  time: Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
});
export type Facts = Static<typeof Facts>;

/** Both the question and the answer. */
export const Hello = Type.Object({
  facts: Facts,
  /** Fingerprints of the other's authorities that the sender takes. */
  knows: Type.Array(Type.String({ pattern: '^[0-9a-f]{64}$' }), { maxItems: 8 }),
  /** The authority that is to follow the sender's present one. */
  next: Type.Optional(pem),
});
export type Hello = Static<typeof Hello>;

export const PairRequest = Type.Object({
  protocol: Range,
  /** Id of the token. */
  token: Type.String({ pattern: '^[0-9a-f]{16}$' }),
  proof: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' }),
  /** Authority of the node that asks. */
  authority: pem,
  name: Type.String({ pattern: '^[a-z][a-z0-9-]{0,62}$' }),
  address: Type.Union([line(300), Type.Null()]),
  facts: Facts,
}, closed);
export type PairRequest = Static<typeof PairRequest>;

export const PairAnswer = Type.Object({ name: line(63), facts: Facts });
export type PairAnswer = Static<typeof PairAnswer>;

/**
 * A reader of messages of one kind.
 * @returns takes a parsed JSON value; throws VeldError `request.invalid`
 */
export function reader<T extends TSchema>(schema: T): (value: unknown) => Static<T> {
  const check = Compile(schema);
  return (value) => {
    if (check.Check(value)) return value;
    const [first] = check.Errors(value);
    throw new VeldError('request.invalid', `The message is not valid: ${first?.instancePath ?? ''} ${first?.message ?? 'wrong shape'}.`.replaceAll('  ', ' '));
  };
}

/** Only what is known of facts, so that nothing else is kept. */
export function knownFacts({ protocol, version, kernel, architecture, cgroup, engine, processor, uids, capabilities, allow, time }: Facts): Facts {
  return { protocol: { min: protocol.min, max: protocol.max }, version, kernel, architecture, cgroup, engine, ...processor && { processor }, uids: { base: uids.base, count: uids.count }, capabilities, allow, time };
}
