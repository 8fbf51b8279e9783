/**
 * A checkpoint in one file (src/lib/sealed-file.ts): `VELDCK02`, a POSIX tar archive of `snapshots/ID/` (archive.json first) and `layers/ID/fs/` of the VE's own
 * layers, and as its seal an Ed25519 signature (RFC 8032), 64 bytes. `VELDCK01` has no line about its packing.
 *
 * criu trusts its images, and so does whoever restores them: an archive is unpacked only after its signature was found to be one of a key that is trusted.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify, type KeyObject } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { runPiped } from '../lib/piped.ts';
import { readSealed, writeSealed, type Packing, type SealedKind } from '../lib/sealed-file.ts';
import { ALL_XATTRS } from '../lib/tar.ts';

const CHECKPOINT: SealedKind = { magic: Buffer.from('VELDCK02'), oldMagic: Buffer.from('VELDCK01'), sealLength: 64, codes: { file: 'checkpoint.file', unusable: 'checkpoint.unusable' }, called: 'a checkpoint of Veld' };

/** What keeps xattrs, sparse files and owners; names in archives are relative, and tar refuses others when it unpacks. */
const TAR = ['--format=posix', '--numeric-owner', ...ALL_XATTRS, '--sparse', '--warning=no-file-ignored'];

/** The key with which this installation signs, made at the first call. @param file PEM, mode 0600 */
export function archiveKey(file: string): KeyObject {
  const text = readIfExists(file);
  if (text !== undefined) return createPrivateKey(text);
  const { privateKey } = generateKeyPairSync('ed25519');
  writeFileAtomic(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), 0o600);
  return privateKey;
}

export interface WriteOptions {
  /** The file to be; it must not be there yet. */
  file: string;
  /** What goes into it: paths, which they keep there, and the folder that each is relative to. */
  parts: readonly { folder: string; path: string }[];
  key: KeyObject;
  /** The engine's tar. */
  tar: string;
  packing: Packing;
  signal: AbortSignal;
  /** Told how many bytes were written. */
  onProgress: (bytes: number) => void;
}

/**
 * Write an archive. The name appears when all is on the disk.
 * @returns bytes
 * @throws VeldError `checkpoint.file` when the name is taken or cannot be written, `disk.full`, `operation.cancelled`
 */
export function writeArchive({ file, parts, key, tar, packing, signal, onProgress }: WriteOptions): Promise<number> {
  const source = () => runPiped(tar, ['--create', '--file=-', ...TAR, ...parts.flatMap(({ folder, path }) => [`--directory=${folder}`, path])], signal);
  return writeSealed({ kind: CHECKPOINT, file, source, packing, seal: (digest) => sign(null, digest, key), signal, onProgress });
}

/**
 * Verify an archive, then unpack it into a folder. What is unpacked is what was verified, also when somebody writes to the file meanwhile.
 * @param trusted keys of this installation, and of whoever else it trusts
 * @param identity file of age, for what is encrypted for it
 * @throws VeldError `checkpoint.file` when it cannot be read, `checkpoint.unusable` when it is no archive, is cut off, changed, or signed by nobody known
 */
export function readArchive(file: string, folder: string, trusted: readonly KeyObject[], tar: string, signal: AbortSignal, identity?: string): Promise<void> {
  return readSealed({
    kind: CHECKPOINT, file, signal, ...identity !== undefined && { identity },
    check: (digest, seal) => trusted.some((key) => verify(null, digest, createPublicKey(key), seal)),
    wrong: [`${file} was changed or cut off, or written by an installation that this one does not trust.`, 'Only checkpoints that this installation has written are restored: criu trusts what is in them.'],
  }, (content) => {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return runPiped(tar, ['--extract', '--file=-', ...TAR, '--same-owner', '--preserve-permissions', `--directory=${folder}`], signal, content);
  });
}
