/** OpenPGP signatures, by gpgv(1) in a box. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { startBox } from '../../kernel/box.ts';
import { VeldError } from '../../lib/errors.ts';

/** Most of a keyring, bytes. */
const KEYRING = 4 << 20;

/**
 * Whether a file is signed by a key of a keyring.
 * @param signed an OpenPGP cleartext signed message; or what has a detached signature (armored or not): bytes, or a file in a folder of its own
 * @param keyring path, binary or armored
 * @returns fingerprint of the key, and of a signed message its content, which is what the signature is of and nothing besides
 * @throws VeldError `source.untrusted`; `source.invalid` when the keyring cannot be read
 */
export async function checkSignature(signed: { message: Buffer } | { content: Buffer; signature: Buffer } | { file: string; signature: Buffer }, keyring: string, what: string, signal?: AbortSignal): Promise<{ signedBy: string; content: Buffer | undefined }> {
  const folder = mkdtempSync(join(tmpdir(), 'veld-signature-'));
  // A large file is looked at where it lies: in a folder of its own, which the box sees.
  const given = 'file' in signed ? dirname(signed.file) : join(folder, 'in');
  const out = join(folder, 'out');
  const beside = ['keyring.gpg', 'signature'].map((name) => join(given, name));
  try {
    for (const path of [out, given]) mkdirSync(path, { recursive: true });
    writeFileSync(beside[0]!, readKeyring(keyring));
    if ('message' in signed) writeFileSync(join(given, 'message'), signed.message);
    else writeFileSync(beside[1]!, signed.signature);
    if ('content' in signed) writeFileSync(join(given, 'content'), signed.content);
    const looked = 'file' in signed ? `/in/${basename(signed.file)}` : '/in/content';
    const lines: string[] = [];
    const box = startBox(['/usr/bin/gpgv', '--homedir', '/in', '--status-fd', '2', '--keyring', '/in/keyring.gpg', ...'message' in signed ? ['--output', '/out/content', '/in/message'] : ['/in/signature', looked]],
      { in: given, out, links: 'refused', capabilities: [], signal, onLine: (line) => lines.push(line) });
    await box.ended;
    const statuses = lines.flatMap((line) => (line.startsWith('[GNUPG:] ') ? [line.slice(9).split(' ')] : []));
    const signedBy = trusted(statuses, what);
    const content = join(out, 'content');
    if ('message' in signed && !existsSync(content)) throw new VeldError('source.untrusted', `${what} holds nothing that is signed.`);
    return { signedBy, content: 'message' in signed ? readFileSync(content) : undefined };
  } finally {
    if ('file' in signed) for (const path of beside) rmSync(path, { force: true });
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Who signed, by the status lines of gpgv (GnuPG's doc/DETAILS): one good signature that is valid now, and none that is broken.
 * @throws VeldError `source.untrusted`
 */
export function trusted(statuses: readonly (readonly string[])[], what: string): string {
  const has = (word: string): readonly string[] | undefined => statuses.find(([first]) => first === word);
  const refuse = (why: string): never => { throw new VeldError('source.untrusted', `${what} ${why}.`); };
  if (has('BADSIG')) refuse('is not what was signed: somebody has changed it');
  const good = has('GOODSIG');
  const valid = has('VALIDSIG')?.[1];
  if (good && valid !== undefined) return valid;
  if (has('REVKEYSIG')) refuse('is signed by a key that was revoked');
  if (has('EXPKEYSIG')) refuse(`is signed by the key ${has('EXPKEYSIG')![1]}, which has expired`);
  if (has('EXPSIG')) refuse('has a signature that has expired');
  const missing = has('NO_PUBKEY')?.[1];
  if (missing !== undefined) refuse(`is signed by the key ${missing}, which is not in the keyring`);
  return refuse(has('NODATA') || statuses.length === 0 ? 'is not signed' : 'has no signature that can be checked');
}

/** A keyring as gpgv takes it: binary. @throws VeldError `source.invalid` */
function readKeyring(path: string): Buffer {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new VeldError('source.invalid', `The keyring ${path} cannot be read: ${(error as Error).message}.`, { hint: 'Put the keys there that may sign; for Ubuntu they are in the package ubuntu-keyring.', cause: error });
  }
  if (bytes.length > KEYRING) throw new VeldError('source.invalid', `The keyring ${path} is larger than ${KEYRING >> 20} MiB.`);
  const text = bytes.toString('latin1');
  if (!text.startsWith('-----BEGIN PGP PUBLIC KEY BLOCK-----')) return bytes;
  // ASCII armor, RFC 9580, 6.2: headers, an empty line, base64, a checksum behind `=` that is not needed.
  const blocks = [...text.replaceAll('\r', '').matchAll(/-----BEGIN PGP PUBLIC KEY BLOCK-----\n(?:[^\n]+: [^\n]*\n)*\n([A-Za-z0-9+/=\n]+?)(?:\n=[A-Za-z0-9+/]{4})?\n*-----END PGP PUBLIC KEY BLOCK-----/g)];
  return Buffer.concat(blocks.map(([, body = '']) => Buffer.from(body, 'base64')));
}
