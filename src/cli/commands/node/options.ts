/** What several commands about nodes have in common. */
import { RIGHTS, parseRights } from '../../../cluster/rights.ts';
import type { OptionSpec } from '../../command.ts';

/** Why commands about nodes are about those of this node. */
export const LOCAL = 'pairings are managed on the node itself';

/** `--allow`. */
export const ALLOW: OptionSpec = {
  flags: '--allow <rights>', parse: parseRights,
  help: `What the other may do here, separated by commas: ${Object.entries(RIGHTS).map(([right, meaning]) => `${right} (${meaning})`).join(', ')}; or none; default: migrate`,
};
