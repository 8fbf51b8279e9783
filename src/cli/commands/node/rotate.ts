/** `veld node rotate` */
import type { Rotation } from '../../../cluster/types.ts';
import { VeldError } from '../../../lib/errors.ts';
import { defineCommand } from '../../command.ts';
import { sanitise } from '../../show/text.ts';
import { LOCAL } from './options.ts';

export const command = defineCommand<object, { ca?: boolean; force?: boolean }>({
  name: 'node rotate',
  group: 'Nodes',
  local: LOCAL,
  summary: 'Make a new certificate of this node, or a new certificate authority',
  description: [
    'A new certificate is used at once; nobody needs to be told. It is renewed by itself every 45 days, too.',
    'With --ca each paired node is told of a new authority over the present connection. It takes over when all of them know it, at once or later by itself; until then the old one is used. '
    + 'With --force it takes over now, and nodes that could not be told have to be paired anew.',
  ],
  options: [{ flags: '--ca', help: 'A new certificate authority, too' }, { flags: '-f, --force', help: 'With --ca: do not wait for nodes that cannot be reached' }],
  examples: [['node rotate', 'A new certificate'], ['node rotate --ca', 'A new authority, without pairing anew']],
  errors: ['node.failed'],
  json: 'fingerprint, end of the certificate, whether a new authority waits, and the nodes that do not know it',
  exits: [['1', 'a new authority waits for nodes that do not know it yet']],
  async run(context, _args, { ca = false, force = false }) {
    if (force && !ca) throw new VeldError('usage', 'node rotate: --force goes with --ca.', { hint: 'See `veld help node rotate`.' });
    const rotation = await (await context.client()).request<Rotation>('POST', '/v1/node/rotate', { authority: ca, force });
    if (context.json) context.printJson(rotation);
    else {
      for (const { name, reason } of rotation.missing) context.err(`veld: ${name} does not know the new authority: ${sanitise(reason)}\n`);
      if (rotation.waiting) context.err('veld: The old authority is used until all nodes know the new one. Remove nodes that are gone for good, or use --force and pair them anew.\n');
      else context.out(`${ca ? 'new authority and certificate' : 'new certificate'}, good until ${rotation.certificateEnds.slice(0, 10)}; authority ${rotation.fingerprint}\n`);
      if (!rotation.waiting && rotation.missing.length > 0) context.err(`veld: Pair anew with ${rotation.missing.map(({ name }) => name).join(', ')}: remove the pairing on both sides, then token and add.\n`);
    }
    return rotation.waiting ? 1 : 0;
  },
});
