/** The limits that programs hold (sockets, open files, locks) while a VE is looked into from outside, by criu or by whoever proves that it works. */
import { existsSync } from 'node:fs';
import { PROGRAM_LIMITS } from '../resources/control.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';

const NAMES: readonly string[] = Object.values(PROGRAM_LIMITS).flat();

/** Refuse nothing for a while: criu runs programs in the VE that open files as it does, such as tar for what is in a tmpfs. */
export function letThrough({ resources }: VeContext, ve: VeRecord): void {
  const properties = resolveProperties(ve.properties);
  if (NAMES.some((name) => properties[name as keyof typeof properties] !== null)) resources.apply(ve.number, properties, NAMES, true);
}

/** Let nothing through any more. What is above a limit by now stays. A VE that is gone has none. */
export function holdAgain({ resources }: VeContext, ve: VeRecord): void {
  if (existsSync(resources.groups(ve.number).unified)) resources.apply(ve.number, resolveProperties(ve.properties), NAMES);
}
