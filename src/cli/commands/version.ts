/** `veld version` */
import { toVeldError } from '../../lib/errors.ts';
import { VERSION } from '../../lib/version.ts';
import { defineCommand } from '../command.ts';

/** Answer of GET /v1. */
interface About {
  version: string;
  api: string;
  instance: string;
}

export const command = defineCommand<object, { client?: boolean }>({
  name: 'version',
  group: 'Help',
  summary: 'Print the versions of this program and of the daemon',
  options: [{ flags: '--client', help: 'Only of this program; also `veld --version`' }],
  examples: [['version', 'Both']],
  json: '{"client": VERSION, "daemon": VERSION or null, "instance": NAME or null}',
  async run(context, _args, { client: only }) {
    const daemon = only ? null : await about(async () => (await context.client()).request<About>('GET', '/v1'));
    if (context.json) context.printJson({ client: VERSION, daemon: daemon?.version ?? null, instance: daemon?.instance ?? null });
    else if (only) context.out(`veld ${VERSION}\n`);
    else context.out(`veld   ${VERSION}\nveldd  ${daemon ? `${daemon.version} (instance ${daemon.instance}, API ${daemon.api})` : 'does not answer'}\n`);
  },
});

async function about(ask: () => Promise<About>): Promise<About | null> {
  try {
    return await ask();
  } catch (error) {
    if (toVeldError(error).code === 'daemon.unreachable') return null;
    throw error;
  }
}
