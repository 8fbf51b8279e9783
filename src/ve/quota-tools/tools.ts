/** The quota tools by name. */
import { VeldError } from '../../lib/errors.ts';
import { edquota } from './edquota.ts';
import { quota } from './quota.ts';
import { repquota } from './repquota.ts';
import { setquota } from './setquota.ts';
import { warnquota } from './warnquota.ts';
import type { Tool, ToolAnswer, ToolRequest } from './types.ts';
import { ToolFailure } from './types.ts';

export const TOOLS: Readonly<Record<string, Tool>> = { quota, repquota, setquota, edquota, warnquota };

/**
 * Run a tool.
 * @returns also of what it refuses: its words, and status 1
 * @throws what is nobody's fault in the VE
 */
export async function runTool(name: string, request: ToolRequest): Promise<ToolAnswer> {
  const tool = Object.hasOwn(TOOLS, name) ? TOOLS[name] : undefined;
  if (tool === undefined) return { status: 1, err: `${name.slice(0, 40)}: there is no such tool here, only ${Object.keys(TOOLS).join(', ')}.\n` };
  if (request.words.some((word) => word === '-V' || word === '--version')) return { status: 0, out: `${name}: of Veld, which keeps the disk quotas of this server on its host.\n` };
  if (request.words.some((word) => word === '-h' || word === '--help')) return { status: 0, out: `${name} takes the options of ${name}(${name === 'quota' ? 1 : 8}) that make sense here: the disk is one file system, /.\n` };
  try {
    return await tool(request);
  } catch (error) {
    // The words of a VeldError are for who administers the host; that the VE's root may know what holds for it, too, is the point of it.
    if (error instanceof ToolFailure || error instanceof VeldError) return { status: 1, err: `${name}: ${error.message}\n` };
    throw error;
  }
}
