/**
 * X.509 certificates (RFC 5280) with ECDSA P-256 keys: made here in the few shapes that Veld needs, read and checked by Node's OpenSSL.
 *
 * Node can read certificates and not make them. What is written here is the DER of a version 3 certificate with five extensions; a mistake in it
 * makes a certificate that OpenSSL refuses, never one that it believes too much: what counts is checked by {@link isIssuedBy} and by TLS itself.
 */
import { isIP, isIPv4 } from 'node:net';
import { X509Certificate, createHash, createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';

/** Milliseconds of a day. */
const DAY = 86_400_000;

/** How far back a certificate begins, in milliseconds: another node's clock may be behind. */
const BACKDATED = DAY;

/** A certificate with its private key, both PEM. */
export interface KeyPair {
  certificate: string;
  /** PKCS #8. */
  key: string;
}

/** Object identifiers, as DER holds them: what follows tag and length. */
const OID = {
  ecdsaWithSha256: '2a8648ce3d040302',
  commonName: '550403',
  subjectKeyIdentifier: '551d0e',
  keyUsage: '551d0f',
  basicConstraints: '551d13',
  authorityKeyIdentifier: '551d23',
  extendedKeyUsage: '551d25',
  serverAuth: '2b06010505070301',
  clientAuth: '2b06010505070302',
  subjectAlternativeName: '551d11',
} as const;

/** Usages as Node names them (X509Certificate.keyUsage). */
const TLS_USAGES = ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'];

/**
 * Make a certificate authority that signs itself.
 * @param name its common name
 * @param days how long it is good
 */
export function makeAuthority(name: string, days: number): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const extensions = [
    extension(OID.basicConstraints, sequence(tlv(0x01, Buffer.of(0xff)), tlv(0x02, Buffer.of(0))), true), // CA, and none below it
    extension(OID.keyUsage, Buffer.from('03020204', 'hex'), true), // keyCertSign
    extension(OID.subjectKeyIdentifier, tlv(0x04, keyIdentifier(publicKey))),
  ];
  return pair(certify({ subject: name, issuer: name, publicKey, days, extensions }, privateKey), privateKey);
}

/**
 * Make a certificate for both ends of TLS, signed by an authority.
 * @param name its common name
 * @param days how long it is good
 * @param hosts names and addresses under which a client finds its server; those that look for them (all but nodes do) believe no other
 */
export function makeTlsCertificate(authority: KeyPair, name: string, days: number, hosts: readonly string[] = []): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuer = new X509Certificate(authority.certificate);
  const extensions = [
    extension(OID.basicConstraints, sequence(), true),
    extension(OID.keyUsage, Buffer.from('03020780', 'hex'), true), // digitalSignature
    extension(OID.extendedKeyUsage, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
    extension(OID.subjectKeyIdentifier, tlv(0x04, keyIdentifier(publicKey))),
    extension(OID.authorityKeyIdentifier, sequence(tlv(0x80, keyIdentifier(issuer.publicKey)))),
    ...hosts.length > 0 ? [extension(OID.subjectAlternativeName, sequence(...hosts.map(alternativeName)))] : [],
  ];
  return pair(certify({ subject: name, issuer: commonName(issuer), publicKey, days, extensions }, createPrivateKey(authority.key)), privateKey);
}

/** sha256 of a certificate's DER, 64 hex digits. */
export function fingerprintOf(certificate: X509Certificate): string {
  return createHash('sha256').update(certificate.raw).digest('hex');
}

/** Whether an authority's certificate is one that {@link makeAuthority} could have made: signs itself, may sign others, P-256. Its times are not looked at. */
export function isAuthority(certificate: X509Certificate): boolean {
  return certificate.ca && isP256(certificate.publicKey) && certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey);
}

/** Whether `leaf` is a certificate for both ends of TLS that `authority` itself has signed. No chain is followed: the authority is the issuer. Times are not looked at. */
export function isIssuedBy(leaf: X509Certificate, authority: X509Certificate): boolean {
  // Names first: that is cheap, and with many authorities it is all that most of them need.
  return leaf.checkIssued(authority) && !leaf.ca && TLS_USAGES.every((usage) => leaf.keyUsage?.includes(usage)) && isAuthority(authority)
    && leaf.verify(authority.publicKey);
}

/**
 * Whether it is time for all of these certificates.
 * @param now milliseconds since 1970
 */
export function areTimely(certificates: readonly X509Certificate[], now = Date.now()): boolean {
  return certificates.every(({ validFrom, validTo }) => Date.parse(validFrom) <= now && now <= Date.parse(validTo));
}

function isP256(key: KeyObject): boolean {
  return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
}

function commonName(certificate: X509Certificate): string {
  return certificate.subject.replace(/^CN=/, '');
}

interface Request {
  subject: string;
  issuer: string;
  publicKey: KeyObject;
  days: number;
  extensions: Buffer[];
}

/** The signed certificate, DER. */
function certify({ subject, issuer, publicKey, days, extensions }: Request, signer: KeyObject): Buffer {
  const now = Date.now();
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40; // positive, and never short
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.of(2))), // version 3
    tlv(0x02, serial),
    algorithm,
    nameOf(issuer),
    sequence(time(now - BACKDATED), time(now + days * DAY)),
    nameOf(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(...extensions)),
  );
  return sequence(body, algorithm, bits(sign('sha256', body, signer)));
}

function pair(der: Buffer, key: KeyObject): KeyPair {
  return { certificate: new X509Certificate(der).toString(), key: key.export({ type: 'pkcs8', format: 'pem' }).toString() };
}

/** Names the key within a certificate; 20 bytes. */
function keyIdentifier(key: KeyObject): Buffer {
  const spki = createPublicKey({ key: key.export({ type: 'spki', format: 'der' }), type: 'spki', format: 'der' }).export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest().subarray(0, 20);
}

/** Tag, length and content (X.690, 8.1). */
function tlv(tag: number, ...content: Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  const length = body.length < 128 ? Buffer.of(body.length) : body.length < 256 ? Buffer.of(0x81, body.length) : Buffer.of(0x82, body.length >> 8, body.length & 255);
  return Buffer.concat([Buffer.of(tag), length, body]);
}

function sequence(...content: Uint8Array[]): Buffer {
  return tlv(0x30, ...content);
}

function oid(hex: string): Buffer {
  return tlv(0x06, Buffer.from(hex, 'hex'));
}

function bits(bytes: Uint8Array): Buffer {
  return tlv(0x03, Buffer.of(0), bytes);
}

function nameOf(commonName: string): Buffer {
  return sequence(tlv(0x31, sequence(oid(OID.commonName), tlv(0x0c, Buffer.from(commonName)))));
}

/** A name of a host, or its address (RFC 5280, 4.2.1.6). */
function alternativeName(host: string): Buffer {
  return isIP(host) === 0 ? tlv(0x82, Buffer.from(host, 'ascii')) : tlv(0x87, isIPv4(host) ? Buffer.from(host.split('.').map(Number)) : ipv6Bytes(host));
}

/** The 16 bytes of an address. */
function ipv6Bytes(address: string): Buffer {
  // As URLs have it: no dotted quad, lower case, one `::` at most.
  const [head = '', tail] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::');
  const [before, after] = [head, tail ?? ''].map((part) => part.split(':').filter(Boolean));
  const words = [...before!, ...Array<string>(8 - before!.length - after!.length).fill('0'), ...after!];
  return Buffer.from(words.map((word) => word.padStart(4, '0')).join(''), 'hex');
}

function extension(id: string, value: Uint8Array, critical = false): Buffer {
  return sequence(oid(id), ...critical ? [tlv(0x01, Buffer.of(0xff))] : [], tlv(0x04, value));
}

/** UTCTime up to 2049, GeneralizedTime from 2050 on (RFC 5280, 4.1.2.5). */
function time(milliseconds: number): Buffer {
  const text = `${new Date(milliseconds).toISOString().replaceAll(/[-:T]/g, '').slice(0, 14)}Z`;
  return text < '2050' ? tlv(0x17, Buffer.from(text.slice(2))) : tlv(0x18, Buffer.from(text));
}
