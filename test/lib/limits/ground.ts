/** A host on which limits are filled: this one, or a machine of the VM tier. */
import type { Beancounter, Beancounters } from '../../../src/spec/beancounters/table.ts';
import type { VeDetail } from '../../../src/ve/types.ts';

export interface LimitGround {
  /** Where the controllers are, and the kernel's release as uname(1) has it: the column of the table of what was seen. */
  readonly groups: 'v2' | 'hybrid';
  kernel: string;
  /** The VE whose limits are filled, and the one beside it; both run, without limits. */
  readonly ve: string;
  readonly neighbour: string;
  /** How many times slower than a machine of its own the host is: emulated ones are. */
  readonly slow: number;
  /** Begins a command on the host that runs one of the programs of this folder. */
  readonly node: string;
  /** A folder of the host for files of the tests. */
  readonly folder: string;
  exec(ve: string, ...command: string[]): Promise<{ exitCode: number; stdout: string; stderr: string }>;
  /** @throws ApiError where the host cannot hold it */
  set(ve: string, changes: Record<string, unknown>): Promise<void>;
  show(ve: string): Promise<VeDetail>;
  beancounters(ve: string): Promise<Beancounters>;
  /** Text of the first of these control files that the VE has, in any hierarchy. */
  control(ve: string, ...files: string[]): Promise<string>;
  /** Standard output of a line of shell on the host, trimmed. @throws when it fails */
  onHost(line: string): Promise<string>;
}

export async function rowOf(ground: LimitGround, ve: string, name: string): Promise<Beancounter> {
  return (await ground.beancounters(ve)).rows.find((row) => row.name === name)!;
}
