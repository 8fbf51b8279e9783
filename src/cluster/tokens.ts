/**
 * Tokens: one printable word that lets one node ask another, once, to be paired.
 *
 * It holds the address of the node that made it, the fingerprint of that node's certificate authority, and a secret. The maker keeps a hash of the secret;
 * who uses it shows by an HMAC that it has the secret, without sending it. The HMAC covers both authorities and the TLS connection itself (RFC 9266
 * calls this channel binding), so it proves nothing on any other connection, nor for anybody else's certificate.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';

/** How long a token is good, in milliseconds. */
export const TOKEN_LIFETIME = 600_000;

const PREFIX = 'veld1_';
const FINGERPRINT_BYTES = 32;
const ID_BYTES = 8;
/** 256 bits. */
const SECRET_BYTES = 32;
const SUM_BYTES = 4;
const LONGEST_WORD = 600;

/** What a token says. */
export interface Token {
  /** `host:port` of its maker. */
  address: string;
  /** Of the maker's certificate authority: sha256 of its DER, 64 hex digits. */
  fingerprint: string;
  /** Names the token to its maker; no secret. 16 hex digits. */
  id: string;
  secret: Buffer;
}

/** Make a token of this node. */
export function makeToken(address: string, fingerprint: string): Token {
  return { address, fingerprint, id: randomBytes(ID_BYTES).toString('hex'), secret: randomBytes(SECRET_BYTES) };
}

/** The token as one word. */
export function tokenToWord({ address, fingerprint, id, secret }: Token): string {
  const body = Buffer.concat([Buffer.from(fingerprint, 'hex'), Buffer.from(id, 'hex'), secret, Buffer.from(address)]);
  return PREFIX + Buffer.concat([body, checksum(body)]).toString('base64url');
}

/**
 * Read a token.
 * @throws VeldError `node.token_invalid` for a word that is none, or was not copied whole
 */
export function tokenFromWord(word: string): Token {
  const text = word.trim();
  const bytes = text.startsWith(PREFIX) && text.length <= LONGEST_WORD && /^[A-Za-z0-9_-]+$/.test(text) ? Buffer.from(text.slice(PREFIX.length), 'base64url') : Buffer.alloc(0);
  const body = bytes.subarray(0, -SUM_BYTES);
  const address = body.subarray(FINGERPRINT_BYTES + ID_BYTES + SECRET_BYTES).toString('utf8');
  // Only the one spelling: a word that was changed and reads the same is not what was given.
  if (address === '' || !checksum(body).equals(bytes.subarray(-SUM_BYTES)) || `${PREFIX}${bytes.toString('base64url')}` !== text) {
    throw new VeldError('node.token_invalid', 'This is not a token, or a part of it is missing.', { hint: 'Copy the whole word that `veld node token` printed on the other node.' });
  }
  return {
    address,
    fingerprint: body.subarray(0, FINGERPRINT_BYTES).toString('hex'),
    id: body.subarray(FINGERPRINT_BYTES, FINGERPRINT_BYTES + ID_BYTES).toString('hex'),
    secret: Buffer.from(body.subarray(FINGERPRINT_BYTES + ID_BYTES, FINGERPRINT_BYTES + ID_BYTES + SECRET_BYTES)),
  };
}

/** What the maker keeps of the secret, 64 hex digits. */
export function keyOf(secret: Uint8Array): string {
  return createHash('sha256').update('veld pairing key\0').update(secret).digest('hex');
}

/** What a proof is bound to. */
export interface ProofContext {
  /** Fingerprint of the authority of the node that asks. */
  asking: string;
  /** Fingerprint of the authority of the node that made the token. */
  asked: string;
  /** Keying material exported from the TLS connection (RFC 8446, 7.5). */
  channel: Uint8Array;
}

/**
 * The proof that one has the secret, base64url.
 * @param key of {@link keyOf}
 */
export function proofOf(key: string, { asking, asked, channel }: ProofContext): string {
  return createHmac('sha256', Buffer.from(key, 'hex')).update(`veld pairing 1\0${asking}\0${asked}\0`).update(channel).digest('base64url');
}

/** Whether a proof is right; takes the same time whatever it is. */
export function isProof(proof: string, key: string, context: ProofContext): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(proof), digest(proofOf(key, context)));
}

/** Finds a word that was not copied whole; guards nothing. */
function checksum(body: Uint8Array): Buffer {
  return createHash('sha256').update(body).digest().subarray(0, SUM_BYTES);
}
