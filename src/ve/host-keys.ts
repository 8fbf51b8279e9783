/**
 * Host keys of sshd for a new VE, so that its first boot need not make them.
 *
 * Format of private keys: PROTOCOL.key of OpenSSH ("openssh-key-v1"), without a passphrase; of public ones: RFC 4253, section 6.6, RFC 5656, section 3.1,
 * and RFC 8709, section 4. The kinds are those that templates make themselves: ECDSA on P-256, and Ed25519.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { LayerRef, VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';

/** A template that has a key of its own keeps it. */
export const HOST_KEY = '/etc/ssh/ssh_host_ed25519_key';

/** What stands before a private key, with its NUL. */
const MAGIC = 'openssh-key-v1\0';
/** The private part is a multiple of this many bytes, with 1, 2, 3, ... at its end. */
const BLOCK = 8;
/** Characters of a line of a private key. */
const LINE = 70;

export interface HostKeyFile {
  path: string;
  content: string;
  mode: number;
}

/** New keys, as the files that sshd reads. @param comment who they are of, at the end of the public keys */
export function sshHostKeys(comment: string): HostKeyFile[] {
  return [ed25519(), ecdsa()].flatMap(({ name, type, shared, secret }) => {
    const blob = Buffer.concat([text(type), ...shared]);
    const path = `/etc/ssh/ssh_host_${name}_key`;
    return [
      { path, content: privateFile(blob, Buffer.concat([text(type), ...secret, text(comment)])), mode: 0o600 },
      { path: `${path}.pub`, content: `${type} ${blob.toString('base64')} ${comment}\n`, mode: 0o644 },
    ];
  });
}

interface Key {
  /** In the names of its files. */
  name: string;
  type: string;
  /** What of the public key follows its type. */
  shared: Buffer[];
  /** What of the private key does. */
  secret: Buffer[];
}

function ed25519(): Key {
  const { x, d } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' }) as { x: string; d: string };
  const [shared, seed] = [bytes(x), bytes(d)];
  return { name: 'ed25519', type: 'ssh-ed25519', shared: [text(shared)], secret: [text(shared), text(Buffer.concat([seed, shared]))] };
}

function ecdsa(): Key {
  const curve = 'nistp256';
  const { x, y, d } = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }) as { x: string; y: string; d: string };
  const shared = [text(curve), text(Buffer.concat([Buffer.of(4), bytes(x), bytes(y)]))]; // 4: a point that is not compressed
  return { name: 'ecdsa', type: `ecdsa-sha2-${curve}`, shared, secret: [...shared, text(positive(bytes(d)))] };
}

function privateFile(blob: Buffer, secret: Buffer): string {
  const check = randomBytes(4);
  const body = Buffer.concat([check, check, secret]);
  const padding = Buffer.from(Array.from({ length: (BLOCK - (body.length % BLOCK)) % BLOCK }, (_, i) => i + 1));
  const whole = Buffer.concat([Buffer.from(MAGIC), text('none'), text('none'), text(''), length(1), text(blob), text(Buffer.concat([body, padding]))]).toString('base64');
  const lines = Array.from({ length: Math.ceil(whole.length / LINE) }, (_, i) => whole.slice(i * LINE, (i + 1) * LINE));
  return `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines.join('\n')}\n-----END OPENSSH PRIVATE KEY-----\n`;
}

/** `string` of RFC 4251, section 5. */
function text(data: string | Buffer): Buffer {
  const content = Buffer.from(data);
  return Buffer.concat([length(content.length), content]);
}

function length(n: number): Buffer {
  const word = Buffer.alloc(4);
  word.writeUInt32BE(n);
  return word;
}

/** `mpint` of RFC 4251, section 5: no zeros before it but one where it would be negative. */
function positive(number: Buffer): Buffer {
  const first = number.findIndex((byte) => byte !== 0);
  const short = number.subarray(first);
  return short[0]! & 0x80 ? Buffer.concat([Buffer.of(0), short]) : short;
}

function bytes(base64url: string): Buffer {
  return Buffer.from(base64url, 'base64url');
}

/** Host keys for a disk that was another VE's, where its sshd will read them: nothing runs in it that could make them. @param layers below the VE's own */
export async function newHostKeys({ volumes }: Pick<VeContext, 'volumes'>, ve: VeRecord, layers: readonly LayerRef[]): Promise<HostKeyFile[]> {
  for (const { id } of layers) {
    const root = await openGuestRoot(volumes.layerPath(id));
    try {
      if (await root.exists(HOST_KEY) || await root.exists('/usr/sbin/sshd')) return sshHostKeys(`root@${resolveProperties(ve.properties).hostname ?? ve.name}`);
    } finally {
      root.close();
    }
  }
  return [];
}
