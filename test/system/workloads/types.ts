/** What a row of the workload matrix is: a VE, what runs in it, and who uses it while it is suspended and resumed. */

/** A running VE as the rows see it. */
export interface Guest {
  name: string;
  /** IPv4, as reached from the host. */
  address: string;
  /** Folder of the host for what the clients need: keys, scripts. */
  folder: string;
  /** Run a script of sh in the VE, which must succeed. @returns what it printed */
  sh(script: string): Promise<string>;
}

/** What clients tell when they have ended. */
export interface LoadReport {
  questions: number;
  answers: number;
  /** Longest time that one client waited for an answer, in milliseconds. */
  longestGap: number;
  /** Broken connections, wrong answers, what came twice: none, if all is well. */
  problems: string[];
}

/** Clients at work. They know nothing of Veld: a VE is an address to them. */
export interface Load {
  /** Answers until now. */
  answers(): number;
  problems(): readonly string[];
  /** Wait until each client has had another answer, or a problem. */
  answered(): Promise<void>;
  /** No more questions; wait for the answers to those that are under way. */
  stop(): Promise<LoadReport>;
}

export interface Workload {
  name: string;
  /** Suite of the VE's template; `debian-12` when not given. */
  suite?: string;
  /** Debian packages besides those that every template has. */
  packages: readonly string[];
  /** Properties of the VE. */
  properties?: Record<string, unknown>;
  /** Makes the VE ready; systemd inside says `running` then. */
  setup?(guest: Guest): Promise<void>;
  /** Begins to use it. */
  load?(guest: Guest): Promise<Load>;
  /** Answers a second that the clients are to get while nothing happens to the VE; less only lets the row say so. */
  rate?: number;
  /** After each resume. @param round from 1 */
  afterResume?(guest: Guest, round: number): Promise<void>;
  /** The clients have ended: is everything in the VE as they were told? */
  check?(guest: Guest, report: LoadReport | undefined): Promise<void>;
  /** A suspend is to be refused with a message like this; nothing else of the row is done. */
  refused?: RegExp;
  /** Suspend/resume rounds in `./check full`; 10 when not given. */
  rounds?: number;
  /** Afterwards: a reboot inside, and one more round. */
  reboot?: boolean;
}
