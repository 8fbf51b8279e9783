/** The key by which lists are signed: gpg(1) with a home folder of its own, or of the administrator's. */
import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { VeldError, toVeldError } from '../../lib/errors.ts';
import { createGate } from '../../lib/gate.ts';
import { run } from '../../lib/run.ts';

/** Milliseconds for one call. A key behind a passphrase would be asked for, and nobody answers. */
const PATIENCE = 30_000;
const GPG = '/usr/bin/gpg';

export interface SigningKey {
  fingerprint: string;
  /** Its public part. */
  armored: string;
}

export interface Signer {
  /** The key, made at first need in Veld's own folder; undefined: this node has no gpg, and never had a key. @throws VeldError `published.unsigned` */
  key(): Promise<SigningKey | undefined>;
  /** An OpenPGP cleartext signed message of a text. @throws VeldError `published.unsigned` */
  sign(text: string): Promise<string>;
  /** A detached signature of a file, armored. @throws VeldError `published.unsigned` */
  detach(file: string, signal: AbortSignal): Promise<string>;
}

/**
 * @param folder of Veld's own key
 * @param given home folder of the administrator's; empty: none
 */
export function createSigner(folder: string, given: string): Signer {
  const home = given === '' ? folder : given;
  let known: SigningKey | undefined;

  const gpg = async (args: readonly string[], options: { input?: string; signal?: AbortSignal } = {}): Promise<string> => {
    try {
      return (await run(GPG, ['--homedir', home, '--batch', '--no-tty', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', '', ...args], { timeout: PATIENCE, keep: 64 << 20, ...options })).stdout;
    } catch (error) {
      if (toVeldError(error).code === 'operation.cancelled') throw error;
      throw new VeldError('published.unsigned', `The lists cannot be signed with the key in ${home}: ${(error as Error).message}`, { cause: error });
    }
  };
  /** gpg leaves its agent running. */
  const endAgent = (): Promise<unknown> => run('/usr/bin/gpgconf', ['--homedir', home, '--kill', 'all'], { allow: true, timeout: PATIENCE }).catch(() => {});
  const fingerprintOf = (listed: string): string | undefined => /^sec:[\s\S]*?^fpr:+([0-9A-F]{40,64}):/m.exec(listed)?.[1];

  // One at a time: who ends the agent must not end it for another.
  const gate = createGate();
  const alone = <T>(work: () => Promise<T>): Promise<T> => gate.alone(async () => {
    try {
      return await work();
    } finally {
      await endAgent();
    }
  });

  const findKey = async (): Promise<SigningKey | undefined> => {
    if (!existsSync(GPG)) {
      if (!existsSync(home)) return undefined;
      throw new VeldError('published.unsigned', `There is a key in ${home}, and gpg is not installed.`, { hint: 'apt-get install gpg gpg-agent' });
    }
    if (given === '') {
      mkdirSync(home, { recursive: true, mode: 0o700 });
      chmodSync(home, 0o700);
    }
    const list = (): Promise<string> => gpg(['--list-secret-keys', '--with-colons', '--fixed-list-mode']);
    let fingerprint = fingerprintOf(await list());
    if (fingerprint === undefined && given === '') {
      await gpg(['--quick-generate-key', `Templates of ${hostname()}`, 'ed25519', 'sign', 'never']);
      fingerprint = fingerprintOf(await list());
    }
    if (fingerprint === undefined) throw new VeldError('published.unsigned', `There is no secret key in ${home}.`);
    return { fingerprint, armored: await gpg(['--armor', '--export', fingerprint]) };
  };

  return {
    key: () => alone(async () => known ??= await findKey()),
    sign: (text) => alone(() => gpg(['--clearsign', '--digest-algo', 'SHA512', '--output', '-'], { input: text })),
    detach: (file, signal) => alone(() => gpg(['--armor', '--digest-algo', 'SHA512', '--detach-sign', '--output', '-', '--', file], { signal })),
  };
}

/** Veld's own key lies there. @param folder of all that is published */
export function ownKeyFolder(folder: string): string {
  return join(folder, 'gnupg');
}
