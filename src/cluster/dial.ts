/** Opens a connection to another node: TLS 1.3, both sides with certificates, and nothing is sent before the other's is known to be right. */
import { X509Certificate } from 'node:crypto';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { VeldError } from '../lib/errors.ts';
import { areTimely, fingerprintOf, isIssuedBy } from '../lib/certificates.ts';
import { formatEndpoint, type Endpoint } from './addresses.ts';
import type { Identity } from './identity.ts';
import type { NodeAuthority } from '../store/types.ts';

/** How long a connection may take to be ready, in milliseconds. */
export const DIAL_TIMEOUT = 5000;

/** What to do about a certificate that has ended, or has not begun. */
export const CLOCK_HINT = 'Compare the clocks of both nodes. If they are right, start the daemon of the node whose certificate has ended: it makes a new one.';

export interface DialOptions {
  /** What the other is called, for messages. */
  name: string;
  endpoint: Endpoint;
  identity: Identity;
  /** Whose certificates are taken. */
  authorities: readonly NodeAuthority[];
  /** Milliseconds; {@link DIAL_TIMEOUT} when left out. */
  timeout?: number;
  signal?: AbortSignal;
}

/**
 * Connect to a node.
 * @returns the connection, and the fingerprint of the authority by which the other is known
 * @throws VeldError `node.unreachable`; `node.untrusted` when the other is not who it should be
 */
export async function dial({ name, endpoint, identity, authorities, timeout, signal }: DialOptions): Promise<{ socket: TLSSocket; authority: string }> {
  const socket = await open(name, endpoint, { ca: authorities.map(({ certificate }) => certificate), cert: identity.chain, key: identity.key }, timeout, signal);
  const leaf = socket.getPeerX509Certificate();
  const authority = leaf && authorities.find(({ certificate }) => isIssuedBy(leaf, new X509Certificate(certificate)));
  if (!socket.authorized || !authority) {
    socket.destroy();
    throw untrusted(name, endpoint, socket.authorizationError ? String(socket.authorizationError) : 'another authority');
  }
  return { socket, authority: authority.fingerprint };
}

/**
 * The authority that a node shows, if it is the one with this fingerprint. The connection is closed again; nothing of ours, no certificate either, was sent.
 * @param fingerprint 64 hex digits
 * @throws VeldError `node.unreachable`, `node.untrusted`
 */
export async function fetchAuthority(endpoint: Endpoint, fingerprint: string, signal?: AbortSignal): Promise<NodeAuthority> {
  const name = formatEndpoint(endpoint);
  const socket = await open(name, endpoint, { rejectUnauthorized: false }, undefined, signal);
  try {
    // Not getPeerX509Certificate() as well: asked a second time for the peer's certificates, Node 24 has none.
    const shown = socket.getPeerCertificate(true);
    if (shown?.raw && shown.issuerCertificate?.raw) {
      const [leaf, authority] = [new X509Certificate(shown.raw), new X509Certificate(shown.issuerCertificate.raw)];
      if (fingerprintOf(authority) === fingerprint && isIssuedBy(leaf, authority) && areTimely([leaf, authority])) return { fingerprint, certificate: authority.toString() };
    }
  } finally {
    socket.destroy();
  }
  throw untrusted(name, endpoint, 'its authority is not the one in the token');
}

function untrusted(name: string, endpoint: Endpoint, why: string, code = ''): VeldError {
  const clock = code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID';
  return new VeldError('node.untrusted', `What answers at ${formatEndpoint(endpoint)} is not ${name === formatEndpoint(endpoint) ? 'the node that made the token' : name}: ${why}.`, { ...clock && { hint: CLOCK_HINT } });
}

function open(name: string, endpoint: Endpoint, options: ConnectionOptions, timeout = DIAL_TIMEOUT, signal?: AbortSignal): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const where = formatEndpoint(endpoint);
    const socket = connect({
      ...options, host: endpoint.host, port: endpoint.port, servername: '', minVersion: 'TLSv1.3',
      // Certificates name keys, not hosts: who the other is follows from its authority.
      checkServerIdentity: () => undefined,
    });
    const end = (error: Error): void => {
      done();
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    };
    const failed = (error: NodeJS.ErrnoException): void => {
      if (/^(?:UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_)/.test(error.code ?? '')) end(untrusted(name, endpoint, error.message, error.code));
      else end(unreachable(name, where, describe(error), error));
    };
    const closed = (): void => end(unreachable(name, where, 'the connection was closed'));
    const aborted = (): void => end(new VeldError('operation.cancelled', `Connecting to ${name} was cancelled.`));
    const timer = setTimeout(() => end(unreachable(name, where, `no answer within ${timeout / 1000} s`)), timeout);
    const done = (): void => {
      clearTimeout(timer);
      socket.off('error', failed).off('close', closed);
      signal?.removeEventListener('abort', aborted);
    };
    socket.once('error', failed).once('close', closed);
    signal?.addEventListener('abort', aborted, { once: true });
    if (signal?.aborted) return aborted();
    socket.once('secureConnect', () => {
      done();
      socket.setNoDelay(true);
      // Finds out that the other machine is gone also while nothing is said.
      socket.setKeepAlive(true, 10_000);
      resolve(socket);
    });
  });
}

/** @param where `host:port` @param why a phrase */
export function unreachable(name: string, where: string, why: string, cause?: unknown): VeldError {
  return new VeldError('node.unreachable', `${name === where ? 'The node' : name} cannot be reached at ${where}: ${why}.`, { ...cause !== undefined && { cause } });
}

function describe(error: NodeJS.ErrnoException & { errors?: NodeJS.ErrnoException[] }): string {
  const { code = '', message } = error.errors?.[0] ?? error;
  if (code === 'ECONNREFUSED') return 'nobody listens there';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'the name is not known';
  if (code.startsWith('ERR_SSL') || code === 'EPROTO') return 'it does not speak TLS 1.3 as a node does';
  if (code === 'ECONNRESET') return 'the connection was reset';
  return message === '' ? code : message;
}
