/**
 * Interface of the checkpoint capability: the processes of a VE as files.
 *
 * The life of a state on disk: `begin` makes an empty folder, libexec/veld-dump has criu fill it, and criu itself, in its last moment before the
 * processes end, marks it whole. From then on the VE is suspended: `restore` tells the scripts how to bring it back. A folder that is not whole is
 * nothing: the processes go on where they were.
 */

/** A mount that comes into the VE from outside, and is not part of its state: it is made anew on restore, from a place that may be another then. */
export interface ExternalMount {
  /** Mount point in the VE. */
  inside: string;
  /** What it is: `lxcfs/proc/uptime`, `dev/null`, `empty`, `init`. */
  name: string;
}

/** What a state was made of, beside the images: `manifest.json`. */
export interface Manifest {
  /** Version of this layout. */
  format: 1;
  ve: string;
  uidBase: number;
  /** Fingerprint. */
  engine: string;
  /** `uname -r` and architecture of the kernel under which it was dumped. */
  kernel: string;
  architecture: string;
  /** Extensions of the instruction set that there were: its programs may use them. Absent in states of earlier versions. */
  processor?: string[];
  /** These are what they were told that it has (`cpu.baseline`), and not all. */
  told?: boolean;
  mounts: ExternalMount[];
  /** Pid in the VE of the process that has the other end of the console, when somebody holds the console. */
  consoleKeeper?: number;
  /** IPv4 addresses for which its kernel answered when it was asked just before. Absent in states of earlier versions. */
  answering?: string[];
  /** Peaks and refusals of its beancounters until then, by their names. Absent in states of earlier versions. */
  beancounters?: Readonly<Record<string, { maxheld: number; failcnt: number }>>;
  /** The state of another VE, or (`moved`) of this one on another node: it gets a configuration of its own. */
  derived?: { closeTcp: boolean; moved?: boolean };
  /** ISO 8601. */
  createdAt: string;
}

/** Places of a state. */
export interface StateFolder {
  dir: string;
  /** criu's images and its log. */
  images: string;
  /** What crun knows of the VE. */
  runtime: string;
  /** The OCI configuration that the VE was booted with. */
  config: string;
}

export interface States {
  folder(uuid: string): StateFolder;
  /** Make an empty folder for a dump; one that is there is thrown away. @param to that of a VE, or of a snapshot */
  begin(to: StateFolder, manifest: Manifest): StateFolder;
  /** The folder of a snapshot's state. */
  snapshot(id: string): StateFolder;
  /** Fill a folder with the same state; the files are the same, nothing is copied. One that is there is thrown away. */
  copy(from: StateFolder, to: StateFolder, options?: { flush: boolean }): void;
  /** Bring a state to the disk: until then it is whole only for as long as the host runs. */
  secure(state: StateFolder): Promise<void>;
  /**
   * Make the state of another VE, in its own uid range, of this one.
   * @param options `moved`: it is the same VE, which was on another node: its network stays what it was; `flush`: false leaves it to the page cache; `to`: the folder
   *   of a snapshot, instead of the VE's own
   */
  derive(from: StateFolder, ve: { uuid: string; uidBase: number }, options: { closeTcp: boolean; moved?: boolean; flush?: boolean; to?: StateFolder }): void;
  /** @throws VeldError `checkpoint.unusable` for one of another version */
  read(from: StateFolder): Manifest;
  /** Whether a whole state is on the disk. */
  isSecure(uuid: string): boolean;
  /** Whether there is a whole state of a snapshot. */
  isWholeSnapshot(id: string): boolean;
  removeSnapshot(id: string): Promise<void>;
  /** Ids of the snapshots for which something is there. */
  listSnapshots(): string[];
  /** Whether the dump ended well: the state is complete and on the disk. */
  isWhole(uuid: string): boolean;
  /** @throws VeldError `checkpoint.unusable` when there is none, or not a whole one */
  manifest(uuid: string): Manifest;
  /** Bytes on disk. */
  size(uuid: string): number;
  remove(uuid: string): Promise<void>;
  /** UUIDs of the VEs for which something is there, whole or not. */
  list(): string[];
}

/** Something that a dump would fail on. */
export interface Obstacle {
  /** For programs: `io_uring`, `namespace`, ... */
  kind: string;
  /** Pid in the VE and name of the process that has it; null when it is the VE's own. */
  process: { pid: number; name: string } | null;
  /** What it is, and why it cannot be kept: one sentence. */
  text: string;
  /** What can be done about it. */
  remedy: string;
}
