/** Where templates come from: servers of images, each behind a protocol. */

export type ProtocolName = 'simplestreams' | 'precreated';

/** A server of images, as its file describes it (config.ts). */
export interface Source {
  name: string;
  description: string;
  protocol: ProtocolName;
  /** Addresses with the same content, the first one asked first; without a slash at the end. */
  urls: string[];
  /** File with the OpenPGP keys that may sign, binary or armored; null: nothing is signed. */
  keyring: string | null;
  /** `signature`: what is not signed by the keyring is refused. `https`: the server is believed, and what its lists say of sizes and hashes is held to. */
  trust: 'signature' | 'https';
  /** File with the certificates that its TLS is checked against, PEM; null: those of the host. */
  ca: string | null;
  /** Lower ones are asked first for a name that several have. */
  order: number;
  /** Path of its file. */
  file: string;
  /** It came with Veld; false: it is the administrator's. */
  shipped: boolean;
  /** Why it cannot be used; null: it can. */
  error: string | null;
}

/** One file of an image. */
export interface ImageFile {
  /**
   * `tree`: the root file system; `metadata`: what Incus and LXD know of it (metadata.yaml in a tar archive); `combined`: both in one archive, the tree below rootfs/.
   */
  role: 'tree' | 'metadata' | 'combined';
  /** Below the addresses of the source. */
  path: string;
  /** Bytes; null: its list does not say. */
  size: number | null;
  /** Of its content, 64 hex digits; null: its list does not say, and `signature` does instead. */
  sha256: string | null;
  /** Path of a detached OpenPGP signature of the file; null: the list is what is signed. */
  signature: string | null;
}

/** One version of what a source offers. */
export interface Image {
  source: string;
  /** The same for all its versions. */
  product: string;
  /** Later ones are greater, byte by byte. */
  serial: string;
  os: string;
  /** `24.04`, `12`; the codename where there is no number. */
  release: string;
  codename: string | null;
  /** `default`, `cloud`, `server`, `minimal`, ... */
  variant: string;
  /** As Debian names it: amd64, arm64, i386. */
  architecture: string;
  title: string;
  /** Other names, without that of the source. */
  aliases: string[];
  /** Day from which nobody looks after it any more, YYYY-MM-DD. */
  endOfLife: string | null;
  /** What makes the tree: one file, or the tree and its metadata. */
  files: ImageFile[];
  /** sha256 of all files in their order (Incus' fingerprint), where the list says it. */
  fingerprint: string | null;
}

/** A list of a source, and who vouches for it. */
export interface Catalogue {
  images: Image[];
  /** When each of its documents was written, where they say it: milliseconds since the epoch, by path. */
  updated: Record<string, number>;
  /** Fingerprint of the key that signed it; null: nobody did. */
  signedBy: string | null;
}

/** Small documents of a source: fetched, bounded, and checked against its keyring where they are signed. */
export interface Documents {
  /**
   * @param path below the addresses of the source
   * @param bytes most of it
   * @throws VeldError `source.unreachable`, `source.invalid`, `operation.cancelled`; undefined where the server has none (404)
   */
  get(path: string, bytes: number): Promise<Buffer | undefined>;
  /**
   * A document that its source signs, by what is in a file: an OpenPGP cleartext signed message, or with a detached signature beside it.
   * @param signed path of the signed message @param plain path of the document, whose detached signature is at `plain` + `.gpg`
   * @throws VeldError `source.untrusted` besides
   */
  signed(signed: string | null, plain: string, bytes: number): Promise<{ content: Buffer; signedBy: string | null }>;
}

/** One way in which servers list images. */
export interface Protocol {
  name: ProtocolName;
  /** All that the source lists. @throws VeldError `source.unreachable`, `source.invalid`, `source.untrusted` */
  list(source: Source, documents: Documents): Promise<Catalogue>;
}
