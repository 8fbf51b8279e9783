/** The nodes that this one is paired with: by name for people, by certificate for connections. */
import { X509Certificate } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import { areTimely, fingerprintOf, isAuthority, isIssuedBy } from '../lib/certificates.ts';
import type { NodeAuthority, NodeRecord, Store } from '../store/types.ts';

/** Authorities of one node that are kept at a time: the present one, the one that follows, and one that was made while that was under way. */
const AUTHORITY_LIMIT = 3;

/** A node, and which of its authorities has signed. */
export interface Found {
  node: NodeRecord;
  authority: string;
  /** Whether certificate and authority are good now: a clock that is wrong ends no pairing. */
  isTimely: () => boolean;
}

export interface Peers {
  list(): NodeRecord[];
  /** @throws VeldError `node.not_found` */
  byName(name: string): NodeRecord;
  byId(id: string): NodeRecord | undefined;
  /** The node that an authority belongs to, whether the pairing has ended or not. */
  byAuthority(fingerprint: string): NodeRecord | undefined;
  /** The node whose certificate this is; none for one whose pairing has ended. */
  find(certificate: X509Certificate): Found | undefined;
  /** @throws VeldError `node.name_taken` */
  save(node: NodeRecord): void;
  remove(id: string): void;
  /** A connection was made with this authority: those before it are over. */
  used(found: Pick<Found, 'node' | 'authority'>): void;
  /** Take what a node says will be its next authority. @throws VeldError `request.invalid` for one that is none, or somebody else's */
  announce(node: NodeRecord, certificate: string): void;
}

/** @param own fingerprints of this node's own authorities */
export function createPeers(store: Pick<Store, 'listNodes' | 'saveNode' | 'deleteNode'>, own: () => readonly (string | undefined)[]): Peers {
  const parsed = new Map<string, X509Certificate>();
  const read = ({ fingerprint, certificate }: NodeAuthority): X509Certificate => {
    const known = parsed.get(fingerprint);
    if (known) return known;
    if (parsed.size > 1000) parsed.clear();
    const fresh = new X509Certificate(certificate);
    parsed.set(fingerprint, fresh);
    return fresh;
  };
  const peers: Peers = {
    list: () => store.listNodes(),
    byName(name) {
      const node = store.listNodes().find((each) => each.name === name);
      if (!node) throw new VeldError('node.not_found', `There is no node ${name}.`);
      return node;
    },
    byId: (id) => store.listNodes().find((each) => each.id === id),
    byAuthority: (fingerprint) => store.listNodes().find(({ authorities }) => authorities.some((each) => each.fingerprint === fingerprint)),
    find(certificate) {
      for (const node of store.listNodes()) {
        if (node.ended) continue;
        const authority = node.authorities.find((each) => isIssuedBy(certificate, read(each)));
        if (authority) return { node, authority: authority.fingerprint, isTimely: () => areTimely([certificate, read(authority)]) };
      }
      return undefined;
    },
    save: (node) => store.saveNode(node),
    remove: (id) => store.deleteNode(id),
    used({ node, authority }) {
      const at = node.authorities.findIndex(({ fingerprint }) => fingerprint === authority);
      if (at > 0) store.saveNode({ ...node, authorities: node.authorities.slice(at) });
    },
    announce(node, certificate) {
      const authority = readAuthority(certificate);
      if (node.authorities.some(({ fingerprint }) => fingerprint === authority.fingerprint)) return;
      // Certificates are no secret: nobody may claim another's.
      if (own().includes(authority.fingerprint) || peers.byAuthority(authority.fingerprint)) throw new VeldError('request.invalid', 'The authority belongs to another node.');
      store.saveNode({ ...node, authorities: [...node.authorities, authority].slice(-AUTHORITY_LIMIT) });
    },
  };
  return peers;
}

/**
 * An authority as another node sent it.
 * @param certificate PEM
 * @throws VeldError `request.invalid`
 */
export function readAuthority(certificate: string): NodeAuthority {
  try {
    const parsed = new X509Certificate(certificate);
    if (isAuthority(parsed) && areTimely([parsed])) return { fingerprint: fingerprintOf(parsed), certificate: parsed.toString() };
  } catch { /* told below */ }
  throw new VeldError('request.invalid', 'The message is not valid: its certificate is not one of an authority, or not good now.');
}
