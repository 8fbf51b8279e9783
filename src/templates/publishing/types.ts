/** Templates that this node offers to others: as images of simplestreams, of LXC's download template, and as OpenVZ's precreated templates. */
import type { TreeRoot } from '../../kernel/mounts.ts';
import type { TemplateRecord } from '../../store/types.ts';
import type { Task } from '../../ops/types.ts';

/** A file of an image; on the disk it is called by its sha256. */
export interface PublishedFile {
  /** Of its content, 64 hex digits. */
  sha256: string;
  /** Bytes. */
  size: number;
}

/** One version of a product. */
export interface PublishedVersion {
  /** `YYYYMMDD_HHMMSS`, UTC: Incus wants the day first. Later ones are greater, byte by byte. */
  serial: string;
  /** The template that it was made of. It may be gone. */
  template: { name: string; fingerprint: string };
  /** The tree, as tar packed by xz. */
  tree: PublishedFile;
  /** metadata.yaml for Incus and LXD, as tar packed by xz. */
  metadata: PublishedFile;
  /** Configuration for LXC, as tar packed by xz. */
  lxc: PublishedFile;
  /** sha256 of metadata and tree, one behind the other: what Incus and LXD call the image by. */
  fingerprint: string;
  /** The tree as OpenVZ has it, packed by gzip, and its detached signature, armored; null: it was not asked for. */
  openvz: PublishedFile & { signature: string | null } | null;
}

/** What is published under one name. */
export interface PublishedProduct {
  /** `OS:RELEASE:ARCHITECTURE:VARIANT`, the codename of the release where it has one. */
  product: string;
  os: string;
  /** `12`, `24.04`; the codename where there is no number. */
  release: string;
  codename: string | null;
  variant: string;
  /** As Debian names it. */
  architecture: string;
  /** Other names, for Incus and LXD. */
  aliases: string[];
  /** Day from which nobody looks after it any more, YYYY-MM-DD. */
  endOfLife: string | null;
  /** Oldest first; never empty. */
  versions: PublishedVersion[];
}

/** What a publish was asked for. */
export interface PublishOptions {
  /** `DISTRIBUTION:RELEASE[/VARIANT]`; default by the template. */
  as?: string;
  /** Beside those that follow from its name, in the place of others that it had; default: those that it had. */
  aliases?: readonly string[];
  /** Also as a precreated template of OpenVZ. */
  openvz?: boolean;
  /** Preset of xz(1), 0 to 9. Default 6. */
  level?: number;
}

/** What came of it. */
export interface Publication {
  product: string;
  serial: string;
  aliases: string[];
  /** Of the newest version. */
  bytes: number;
  /** False: this very template is its newest version already. */
  added: boolean;
  /** Fingerprint of the key that signed the lists; null: nobody did. */
  signedBy: string | null;
}

/** What a path of the server leads to. */
export type Resource =
  | { content: Buffer; type: string; etag: string; modified: Date }
  /** Never another content under the same path. */
  | { file: string; size: number; type: string; etag: string; modified: Date };

/** Where the tree of a template is, and whether it still is: asked once more when all was read. */
export interface TreeOfTemplate {
  template: TemplateRecord;
  path: TreeRoot;
  /** @throws VeldError `template.not_found` */
  check: () => void;
}

/** How the server stands. */
export interface ImageServerState {
  /** Where others find it; null: it is not to listen anywhere. */
  url: string | null;
  /** Why it does not listen although it should; null: it does, or need not. */
  error: string | null;
  /** The authority whose certificates clients have to trust, PEM; null: theirs do already, or there is no TLS. */
  authority: string | null;
  /** The key that signs: fingerprint, and its public part, armored; null: there is none, so nothing is signed. */
  key: { fingerprint: string; armored: string } | null;
  /** Since the daemon began. */
  requests: number;
  bytes: number;
}

/** Whatever is published, and its server. */
export interface Publisher {
  /** By product. @throws VeldError `published.damaged` */
  list(): PublishedProduct[];
  /**
   * Make files of a template, and list them.
   * @throws VeldError `published.name_invalid`, `published.name_taken`, `published.unsigned`, `template.invalid`, `template.not_found`, `disk.full`, `operation.cancelled`
   */
  publish(tree: TreeOfTemplate, options: PublishOptions, task: Task): Promise<Publication>;
  /**
   * Take a product away, or one of its versions.
   * @param name its product, an alias, `OS:RELEASE[/VARIANT]`, or the template of which its newest version was made
   * @throws VeldError `published.not_found`, `image.ambiguous`, `published.unsigned`
   */
  unpublish(name: string, serial: string | undefined, task: Task): Promise<{ product: string; serials: string[] }>;
  /** Look after what an earlier daemon left, and serve, if the settings say so. An address that is not there yet is tried again. @param heard called when it has come @throws VeldError `published.not_listening`, `published.damaged` */
  start(heard: () => void): Promise<void>;
  state(): ImageServerState;
  close(): Promise<void>;
}
