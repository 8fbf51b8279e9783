/**
 * The Debian archive keys that Veld ships, and their pins.
 *
 * `share/keys/debian-archive.gpg` is the concatenation of the keys of Debian's debian-archive-keyring package. Before it is handed
 * to apt, the fingerprint of every primary key in it is computed here (RFC 4880, 12.2: SHA-1 over 0x99, two length octets and the body
 * of the version 4 public key packet) and compared with the table below: a file that was exchanged is refused, whatever its name.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { installRoot } from './install-root.ts';

/** Fingerprint of each primary key that may be in the file -> what it is. Source: package debian-archive-keyring 2023.3+deb12u2. */
export const PINNED_KEYS: Readonly<Record<string, string>> = {
  '1F89983E0081FDE018F3CC9673A4F27B8DD47936': 'Debian Archive Automatic Signing Key (11/bullseye)',
  AC530D520F2F3269F5E98313A48449044AAD5C5D: 'Debian Security Archive Automatic Signing Key (11/bullseye)',
  A4285295FC7B1A81600062A9605C66F00D6C9793: 'Debian Stable Release Key (11/bullseye)',
  B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8: 'Debian Archive Automatic Signing Key (12/bookworm)',
  '05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0': 'Debian Security Archive Automatic Signing Key (12/bookworm)',
  '4D64FEC119C2029067D6E791F8D2585B8783D481': 'Debian Stable Release Key (12/bookworm)',
  '04B54C3CDCA79751B16BC6B5225629DF75B188BD': 'Debian Archive Automatic Signing Key (13/trixie)',
  '5E04A1E3223A19A20706E20F9904613D4CCE68C6': 'Debian Security Archive Automatic Signing Key (13/trixie)',
  '41587F7DB8C774BCCF131416762F67A0B2C39DE4': 'Debian Stable Release Key (13/trixie)',
};

/**
 * Path of the shipped keyring, after its keys were compared with the pins.
 * @throws VeldError `engine.failed` when a key is not pinned, or a pinned key is missing
 */
export function debianKeyring(file = join(installRoot(), 'share', 'keys', 'debian-archive.gpg')): string {
  const found = new Set(primaryFingerprints(readFileSync(file)));
  const strange = [...found].filter((fingerprint) => !(fingerprint in PINNED_KEYS));
  const missing = Object.keys(PINNED_KEYS).filter((fingerprint) => !found.has(fingerprint));
  if (strange.length > 0) throw new VeldError('engine.failed', `${file} holds a key that is not Debian's: ${strange.join(', ')}.`);
  if (missing.length > 0) throw new VeldError('engine.failed', `${file} lacks the key ${missing.map((f) => PINNED_KEYS[f]).join(', ')}.`);
  return file;
}

/**
 * Fingerprints (40 upper-case hex digits) of the primary keys in a binary OpenPGP keyring.
 * @throws VeldError `engine.failed` on anything that is not a sequence of packets, or a key that is not version 4
 */
export function primaryFingerprints(keyring: Uint8Array): string[] {
  const fingerprints: string[] = [];
  let at = 0;
  while (at < keyring.length) {
    const { tag, start, end } = packet(keyring, at);
    if (tag === 6) {
      const body = keyring.subarray(start, end);
      if (body[0] !== 4) throw broken('a key that is not version 4');
      const length = body.length;
      fingerprints.push(createHash('sha1').update(Uint8Array.of(0x99, length >> 8, length & 0xff)).update(body).digest('hex').toUpperCase());
    }
    at = end;
  }
  return fingerprints;
}

/** One packet header (RFC 4880, 4.2): where its body starts and ends. Partial and indeterminate lengths do not occur in keyrings. */
function packet(bytes: Uint8Array, at: number): { tag: number; start: number; end: number } {
  const byte = (i: number): number => {
    const value = bytes[i];
    if (value === undefined) throw broken('a packet that is cut short');
    return value;
  };
  const head = byte(at);
  if ((head & 0x80) === 0) throw broken('bytes that are no packet');
  let start: number;
  let length: number;
  const tag = (head & 0x40) !== 0 ? head & 0x3f : (head >> 2) & 0x0f;
  if ((head & 0x40) !== 0) {
    const first = byte(at + 1);
    if (first < 192) [start, length] = [at + 2, first];
    else if (first < 224) [start, length] = [at + 3, ((first - 192) << 8) + byte(at + 2) + 192];
    else if (first === 255) [start, length] = [at + 6, number(byte, at + 2, 4)];
    else throw broken('a packet of unknown length');
  } else {
    const octets = 1 << (head & 3);
    if (octets === 8) throw broken('a packet of unknown length');
    [start, length] = [at + 1 + octets, number(byte, at + 1, octets)];
  }
  if (start + length > bytes.length) throw broken('a packet that is cut short');
  return { tag, start, end: start + length };
}

function number(byte: (i: number) => number, at: number, octets: number): number {
  let value = 0;
  for (let i = 0; i < octets; i++) value = value * 256 + byte(at + i);
  return value;
}

function broken(what: string): VeldError {
  return new VeldError('engine.failed', `The keyring holds ${what}.`);
}
