/**
 * Who this node is to others: a certificate authority of its own, and a certificate signed by it.
 *
 * The authority is what others know and keep; the certificate, which each TLS connection shows, is short-lived and renewed by itself. Both are made at
 * first need. One file holds all of it, replaced as a whole: there is no moment with a certificate and another one's key.
 */
import { X509Certificate, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { fingerprintOf, makeAuthority, makeTlsCertificate, type KeyPair } from '../lib/certificates.ts';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';

/** How long an authority is good, in days. */
const AUTHORITY_DAYS = 3653;
/** How long a certificate is good, in days; it is renewed at half of that. */
const CERTIFICATE_DAYS = 90;

/** What a TLS connection needs of this node. */
export interface Identity {
  /** The certificate, and its authority's after it; PEM. */
  chain: string;
  key: string;
  /** The authority's certificate, PEM. */
  authority: string;
  /** sha256 of the authority's DER, 64 hex digits. */
  fingerprint: string;
  /** When the certificate and when the authority end, milliseconds since 1970. */
  ends: { certificate: number; authority: number };
}

interface Kept {
  authority: KeyPair;
  node: KeyPair;
  /** An authority that others are being told of; nothing is signed with it yet. */
  next?: KeyPair;
}

export interface IdentityKeeper {
  /** As it is now; made when there is none. */
  current(): Identity;
  /** Make a new certificate of the same authority, for connections from now on. */
  renew(): Identity;
  /** Whether the certificate has lived half of its life. */
  isDue(): boolean;
  /** The authority that is to follow, when one was prepared. */
  next(): { authority: string; fingerprint: string } | undefined;
  /** Make the authority that is to follow (or give the one that was made already). Nothing uses it before {@link IdentityKeeper.adopt}. */
  prepare(): { authority: string; fingerprint: string };
  /** Let the prepared authority take over, with a certificate signed by it. */
  adopt(): Identity;
}

/**
 * The identity in a state folder.
 * @param stateDir the daemon's
 * @param now clock in milliseconds since 1970, for tests
 */
export function keepIdentity(stateDir: string, now: () => number = Date.now): IdentityKeeper {
  const file = join(stateDir, 'nodes/identity.json');
  let kept: Kept | undefined;
  let identity: Identity | undefined;

  const save = (changed: Kept): Identity => {
    writeFileAtomic(file, `${JSON.stringify(changed)}\n`, 0o600);
    kept = changed;
    identity = undefined;
    return keeper.current();
  };
  const load = (): Kept => {
    if (kept) return kept;
    const text = readIfExists(file);
    if (text === undefined) {
      const authority = newAuthority();
      save({ authority, node: newCertificate(authority) });
      return kept!;
    }
    try {
      kept = JSON.parse(text) as Kept;
      identityOf(kept);
      return kept;
    } catch (error) {
      kept = undefined;
      throw new VeldError('node.failed', `${file} cannot be read.`, { cause: error, hint: 'Restore it from a backup; or remove it, and pair with all nodes anew.' });
    }
  };
  const keeper: IdentityKeeper = {
    current: () => identity ??= identityOf(load()),
    renew: () => {
      const { authority } = load();
      return save({ ...load(), node: newCertificate(authority) });
    },
    isDue: () => now() > keeper.current().ends.certificate - (CERTIFICATE_DAYS / 2) * 86_400_000,
    next: () => {
      const { next } = load();
      return next && { authority: next.certificate, fingerprint: fingerprintOf(new X509Certificate(next.certificate)) };
    },
    prepare: () => {
      if (!load().next) save({ ...load(), next: newAuthority() });
      return keeper.next()!;
    },
    adopt: () => {
      const { next } = load();
      if (!next) throw new VeldError('internal', 'There is no prepared authority.');
      return save({ authority: next, node: newCertificate(next) });
    },
  };
  return keeper;
}

function identityOf({ authority, node }: Kept): Identity {
  const [ca, own] = [new X509Certificate(authority.certificate), new X509Certificate(node.certificate)];
  return {
    chain: `${node.certificate.trimEnd()}\n${authority.certificate}`, key: node.key, authority: authority.certificate, fingerprint: fingerprintOf(ca),
    ends: { certificate: Date.parse(own.validTo), authority: Date.parse(ca.validTo) },
  };
}

/** Each with a name of its own: nothing but the key tells two apart otherwise. */
function newAuthority(): KeyPair {
  return makeAuthority(`Veld node authority ${randomBytes(8).toString('hex')}`, AUTHORITY_DAYS);
}

function newCertificate(authority: KeyPair): KeyPair {
  return makeTlsCertificate(authority, `Veld node ${randomBytes(8).toString('hex')}`, CERTIFICATE_DAYS);
}
