/**
 * What in a tree others had better not get: private keys, passwords, tokens. By names, and by shapes that are well known; so what is found is likely one, and what is not found may be there all the same.
 * The tree is somebody else's: GNU tar reads it in a box, through no link, and files are looked at here as they come, none larger than {@link LARGEST}.
 */
import { startBox } from '../kernel/box.ts';
import { VeldError } from '../lib/errors.ts';
import { TarReader, type TarEntry } from '../lib/tar-entries.ts';
import type { Tree } from '../storage/transfer.ts';

/** Kinds of what is found. */
export type SecretKind = 'private-key' | 'key-store' | 'authorized-keys' | 'password-hash' | 'password' | 'token';

export interface Secret {
  /** Absolute; each character is one byte (latin1). */
  path: string;
  kind: SecretKind;
  /** What it looks like, one phrase without any of it. */
  what: string;
}

export interface SecretReport {
  secrets: Secret[];
  /** Files that were not looked into, for they are larger than {@link LARGEST}, or too many. */
  skipped: number;
}

/** Largest file that is looked into, in bytes; most bytes and files of a tree; most findings that are told. */
export const LARGEST = 4 << 20;
const BYTES = 16 * 2 ** 30;
const FILES = 1_000_000;
const TOLD = 1000;

/** How much of a file tells whether it is text, in bytes. */
const HEAD = 8192;

interface Shape {
  kind: SecretKind;
  what: string;
  /** Of the absolute path; default: any. */
  path?: RegExp;
  /** Of the content, each byte a character; default: any, also of what is no text. */
  content?: RegExp;
}

/** A file at whose name it shows, or text that has such a shape. */
const SHAPES: readonly Shape[] = [
  // PEM of RFC 7468, OpenSSH, PGP. At least a line of it: programs hold the words alone.
  { kind: 'private-key', what: 'a private key', content: /-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----\s+(?:[\w-]+: [^\n]*\n\s*)*[A-Za-z0-9+/=]{16}/ },
  { kind: 'private-key', what: 'a private key of PuTTY', content: /^PuTTY-User-Key-File-\d:/ },
  { kind: 'private-key', what: 'a private key of WireGuard', path: /^\/etc\/(?:wireguard|systemd\/network)\//, content: /^[ \t]*PrivateKey[ \t]*=[ \t]*[A-Za-z0-9+/]{43}=/m },
  { kind: 'private-key', what: 'a file of a private key', path: /^\/(?:etc|root|home|srv|opt|var)\/.*\.(?:key|der|pk8)$/s },
  { kind: 'key-store', what: 'a store of keys', path: /\.(?:p12|pfx|jks|keystore|kdbx)$/ },
  { kind: 'key-store', what: 'secret keys of GnuPG', path: /\/(?:private-keys-v1\.d\/[^/]+|secring\.gpg)$/ },
  { kind: 'authorized-keys', what: 'keys that may log in', path: /\/authorized_keys2?$/, content: /^(?!\s*#)[^\n]*\b(?:ssh-|ecdsa-|sk-)[\w@.-]+ +[A-Za-z0-9+/]{20}/m },
  { kind: 'password', what: 'passwords for servers', path: /\/\.(?:netrc|pgpass|git-credentials)$/, content: /\S/ },
  { kind: 'password', what: 'a login of registries', path: /\/(?:\.docker\/config|\.dockercfg|containers\/auth)(?:\.json)?$/, content: /"(?:auth|identitytoken|registrytoken)"\s*:\s*"[^"]+"/ },
  { kind: 'password', what: 'a password of a database', path: /\/(?:\.my\.cnf|\.mylogin\.cnf|debian\.cnf)$/, content: /^[ \t]*password[ \t]*=[ \t]*\S/m },
  { kind: 'password', what: 'keys of a cloud', path: /\/\.aws\/credentials$/, content: /aws_secret_access_key[ \t]*=[ \t]*\S/ },
  { kind: 'password', what: 'a login of a cluster', path: /\/(?:\.kube\/config|admin\.conf|kubelet\.conf)$/, content: /^[ \t]*(?:client-key-data|token|password):[ \t]*\S/m },
  { kind: 'password', what: 'a password in an address', path: /^\/etc\/(?:apt\/|environment$)|\/\.git\/config$|\/\.env[^/]*$/, content: /[a-z]{2,10}:\/\/[^\s/:@]+:[^\s/:@]{3,}@[\w.-]/ },
  { kind: 'password', what: 'words that a program keeps secret', path: /\/\.env(?:\.(?!example|sample|template)[^/]*)?$/, content: /^[ \t]*(?:export[ \t]+)?\w*(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY)\w*[ \t]*=[ \t]*["']?[^\s"'$]{4}/im },
  { kind: 'token', what: 'a token', path: /\/\.(?:npmrc|pypirc|vault-token|netlify)$/, content: /(?:_authToken|_password|password)[ \t]*[=:][ \t]*\S|^(?:hvs\.|s\.)\w/m },
  { kind: 'token', what: 'an access key of AWS', content: /\b(?:AKIA|ASIA)(?![A-Z0-9]*EXAMPLE)[A-Z2-7]{16}\b/ },
  { kind: 'token', what: 'a token of GitHub', content: /\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b/ },
  { kind: 'token', what: 'a token of GitLab', content: /\bglpat-[\w-]{20,}/ },
  { kind: 'token', what: 'a token of Slack', content: /\bxox[abposr]-(?:\d+-){1,3}[A-Za-z0-9-]{20,}/ },
  { kind: 'token', what: 'a key of Stripe', content: /\b[rs]k_live_[A-Za-z0-9]{20,}/ },
  { kind: 'token', what: 'a key of Google', content: /\bAIza[\w-]{35}\b/ },
  { kind: 'token', what: 'a token of DigitalOcean', content: /\bdo[opr]_v1_[0-9a-f]{64}\b/ },
];

/** What a file looks like. @param path absolute @param content undefined: it is too large to be looked into */
export function secretsIn(path: string, content: Buffer | undefined): Secret[] {
  const isText = content !== undefined && !content.subarray(0, HEAD).includes(0);
  const text = isText ? content.toString('latin1') : '';
  return SHAPES.filter((shape) => (shape.path === undefined || shape.path.test(path)) && (shape.content === undefined ? shape.path !== undefined : isText && shape.content.test(text)))
    // One that is a key by its content is one by its name, too: it is told once.
    .filter(({ kind }, i, all) => all.findIndex((other) => other.kind === kind) === i)
    .map(({ kind, what }) => ({ path, kind, what }));
}

/** Hashes of passwords that another file of accounts has not got (shadow(5)). A locked one counts: it can be unlocked. */
export function newHashes(path: string, content: string, before: string): Secret[] {
  const known = new Set(hashes(before));
  const users = hashes(content).filter((entry) => !known.has(entry)).map((entry) => entry.slice(0, entry.indexOf(':')));
  return users.map((user) => ({ path, kind: 'password-hash', what: `the password of ${/^[\w.-]{1,32}$/.test(user) ? user : 'a user'}` }));
}

/** `USER:HASH` of those that have one: crypt(5) begins with $ or _, the old kind has 13 characters. */
function hashes(shadow: string): string[] {
  return shadow.split('\n').flatMap((line) => {
    const [, user, hash] = /^([^:]+):!*([^:]*)(?::|$)/.exec(line) ?? [];
    return user !== undefined && hash !== undefined && /^(?:[$_]\S{8,}|[./A-Za-z0-9]{13})$/.test(hash) ? [`${user}:${hash}`] : [];
  });
}

/** Files of accounts; what dpkg says is in a package. */
const SHADOW = /^\/etc\/g?shadow-?$/;
const PACKAGE_LIST = /^\/var\/lib\/dpkg\/info\/[^/]+\.list$/;
/** What a package has put here is everybody's already: keys of test suites, above all. */
const FROM_PACKAGES = /^\/usr\/(?!local\/)/;

/**
 * Look through a tree.
 * @param root a folder of Veld's own @param tree what is in it
 * @param before reads a file of what it stands on; empty where there is none
 * @throws VeldError `storage.failed`, `operation.cancelled`
 */
export async function findSecrets(root: string, tree: Tree, before: (path: string) => Promise<string>, signal: AbortSignal): Promise<SecretReport> {
  const report: SecretReport = { secrets: [], skipped: 0 };
  const accounts = new Map<string, string>();
  const lists: string[] = [];
  const names: string[] = [];
  let bytes = 0;
  for (const [name, { type, size }] of tree) {
    if (type !== 'file' || size === 0) continue;
    if (size > LARGEST || bytes + size > BYTES || names.length >= FILES) {
      report.skipped += 1;
      report.secrets.push(...secretsIn(`/${name}`, undefined));
      continue;
    }
    bytes += size;
    names.push(name);
  }
  await readFiles(root, names, (path, content) => {
    if (SHADOW.test(path)) accounts.set(path, content.toString('latin1'));
    else if (PACKAGE_LIST.test(path)) lists.push(`\n${content.toString('latin1')}`);
    else if (report.secrets.length < TOLD) report.secrets.push(...secretsIn(path, content));
  }, signal);
  report.secrets = report.secrets.filter(({ path }) => !FROM_PACKAGES.test(path) || !lists.some((list) => list.includes(`\n${path}\n`)));
  for (const [path, content] of accounts) report.secrets.push(...newHashes(path, content, await before(path.replace(/-$/, ''))));
  report.secrets.sort((a, b) => (a.path < b.path ? -1 : 1));
  return report;
}

/** Read files one after the other. One with several names comes once. */
async function readFiles(root: string, names: readonly string[], onFile: (path: string, content: Buffer) => void, signal: AbortSignal): Promise<void> {
  const box = startBox(['/usr/bin/tar', '--create', '--file=-', '--directory=/in', '--format=posix', '--numeric-owner', '--no-recursion', '--null', '--no-unquote', '--files-from=-'],
    { in: root, links: 'refused', capabilities: ['dac_read_search'], stdin: 'pipe', stdout: 'pipe', signal });
  let parts: Buffer[] = [];
  const reader = new TarReader(() => { parts = []; }, ({ type, path }: TarEntry) => {
    if (type === 'file') onFile(path.replace(/^\.\//, '/'), Buffer.concat(parts));
    parts = [];
  }, { encoding: 'latin1', hash: false, content: (part) => parts.push(Buffer.from(part)), invalid: (what) => new VeldError('storage.failed', `What tar reads of ${root} ${what}.`) });
  const fed = (async () => {
    for (let i = 0; i < names.length; i += 512) await box.feed(Buffer.from(names.slice(i, i + 512).map((name) => `./${name}\0`).join(''), 'latin1'));
    box.stdin!.end();
  })();
  fed.catch(() => {}); // tar tells
  try {
    for await (const chunk of box.stdout!) reader.write(chunk as Buffer);
    await fed;
    const { code, said } = await box.ended;
    if (code !== 0) throw new VeldError('storage.failed', `${root} could not be looked through: ${said || `tar ended with status ${code}`}`);
    reader.end();
  } finally {
    box.kill();
  }
}
