/** What the benchmark asks of Veld and of each peer. All of them run the same root file system, unprivileged, with a veth each. */

export type ContestantName = 'veld' | 'incus' | 'lxc';

/** An argument vector. */
export type Command = readonly string[];

/** The verbs as a person at a shell has them. Where two commands are needed they are timed together. */
export interface Commands {
  deploy(ve: string): Command[];
  start(ve: string): Command[];
  stop(ve: string): Command[];
  kill(ve: string): Command[];
  execTrue(ve: string): Command[];
  list(): Command[];
  limitMemory(ve: string): Command[];
  destroy(ve: string): Command[];
}

/** The verbs as a program has them: requests on a unix socket, one connection kept alive. */
export interface Requests {
  /** Create and start. */
  deploy(ve: string): Promise<void>;
  execTrue(ve: string): Promise<void>;
  limitMemory(ve: string): Promise<void>;
  /** State of all VEs by one request. @returns bytes of the answer */
  states(): Promise<number>;
  /** State of one VE, with what it uses. */
  state(ve: string): Promise<void>;
}

/** What a VE may have, in words that all of them know; what is not given stays as it is. */
export interface Limits {
  /** Share of the CPUs against others, 100 by default. */
  weight?: number;
  /** Percent of one CPU. */
  cpu?: number;
  /** MiB, without swap. */
  memory?: number;
  processes?: number;
}

export interface Contestant {
  readonly name: ContestantName;
  /** Program and version, for the report. */
  readonly title: string;
  readonly commands: Commands;
  /** Added to the environment of its commands. */
  readonly env: Readonly<Record<string, string>>;
  /** LXC has none. */
  readonly requests?: Requests;
  /** The same, where what it deploys need not boot; and where it stands ready. */
  readonly warm?: Contestant;
  readonly spare?: Contestant;
  /** Wait until it is as ready for a deploy as it ever will be. */
  settle?(): Promise<void>;
  /** Pid of the daemon, where there is one. */
  readonly daemon?: () => number;
  /** Limit a VE that runs. LXC forgets it when the VE stops. */
  limit(ve: string, limits: Limits): Promise<void>;
  /** Have a VE that runs reachable from the host. @returns its address, and the host's on its link */
  plug(ve: string): Promise<{ address: string; host: string }>;
  /** Path of the VE's group in every hierarchy. */
  group(ve: string): Promise<string>;
  /** Pids of what stays on the host for these VEs, beside the daemon. */
  monitors(ves: readonly string[]): number[];
  /** End what runs and remove what was made. */
  close(): Promise<void>;
}
