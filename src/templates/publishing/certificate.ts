/** The certificate of the server of images: the administrator's, or one of an authority of its own, which others have to be told. */
import { X509Certificate, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { VeldError } from '../../lib/errors.ts';
import { makeAuthority, makeTlsCertificate, type KeyPair } from '../../lib/certificates.ts';
import { readIfExists, writeFileAtomic } from '../../lib/files.ts';
import type { Settings } from '../../lib/settings.ts';

/** How long an authority and a certificate are good, in days; the latter is renewed at half of that. */
const [AUTHORITY_DAYS, CERTIFICATE_DAYS] = [3653, 90];

interface Kept {
  authority: KeyPair;
  leaf: KeyPair;
  /** For which the leaf is. */
  hosts: string[];
}

/** What TLS needs, and the authority that clients have to trust: null where they do already. */
export interface ServerCertificate {
  cert: string;
  key: string;
  authority: string | null;
}

/**
 * The certificate as it should be now. (Not that of the node door: its key would open that of other nodes, too.)
 * @param file keeps those that are made here
 * @throws VeldError `published.not_listening` when that of the settings cannot be used
 */
export function serverCertificate(file: string, { listen, address, certificate, key }: Settings['images'], now = Date.now()): ServerCertificate {
  if (certificate !== '') return given(certificate, key);
  const hosts = hostsOf(listen, address);
  const kept = read(file);
  const dueAt = kept && Date.parse(new X509Certificate(kept.leaf.certificate).validTo) - CERTIFICATE_DAYS / 2 * 86_400_000;
  let current = kept;
  if (!current || now > dueAt! || hosts.some((host) => !kept!.hosts.includes(host))) {
    const authority = kept?.authority ?? makeAuthority(`Veld images ${randomBytes(8).toString('hex')}`, AUTHORITY_DAYS);
    current = { authority, leaf: makeTlsCertificate(authority, 'Veld images', CERTIFICATE_DAYS, hosts), hosts };
    writeFileAtomic(file, `${JSON.stringify(current)}\n`);
  }
  return { cert: `${current.leaf.certificate.trimEnd()}\n${current.authority.certificate}`, key: current.leaf.key, authority: current.authority.certificate };
}

function given(certificate: string, key: string): ServerCertificate {
  try {
    const [cert, secret] = [readFileSync(certificate, 'utf8'), readFileSync(key, 'utf8')];
    void new X509Certificate(cert);
    return { cert, key: secret, authority: null };
  } catch (error) {
    throw new VeldError('published.not_listening', `The certificate ${certificate} with the key ${key} cannot be read: ${(error as Error).message}.`, { cause: error });
  }
}

function read(file: string): Kept | undefined {
  const text = readIfExists(file);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as Kept;
  } catch (error) {
    throw new VeldError('published.not_listening', `${file} cannot be read.`, { cause: error, hint: 'Restore it from a backup; or remove it, and tell others the new authority.' });
  }
}

/** Names and addresses under which others may ask for this server. */
export function hostsOf(listen: string, address: string): string[] {
  const hostOf = (endpoint: string): string[] => (endpoint === '' ? [] : [endpoint.replace(/:\d+$/, '').replace(/^\[([^\]%]*)[^\]]*\]$/, '$1')]);
  const [at] = hostOf(listen);
  const here = at === '0.0.0.0' || at === '::' || at === undefined
    ? Object.values(networkInterfaces()).flat().filter((each) => each !== undefined && !each.address.startsWith('fe80:') && (at !== '0.0.0.0' || each.family === 'IPv4')).map((each) => each!.address)
    : [at];
  return [...new Set([...hostOf(address), hostname().toLowerCase(), 'localhost', ...here])].filter((host) => /^[\w.:-]{1,253}$/.test(host)).slice(0, 100);
}
