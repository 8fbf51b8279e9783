/** `veld template server` */
import type { ImageServerState } from '../../../templates/publishing/types.ts';
import { VeldError } from '../../../lib/errors.ts';
import { defineCommand } from '../../command.ts';
import { layoutFacts } from '../../show/table.ts';
import { formatBytes } from '../../show/text.ts';

export const command = defineCommand<object, { key?: boolean; authority?: boolean; source?: boolean }>({
  name: 'template server',
  group: 'Templates',
  summary: 'Show how others reach the templates that this node publishes',
  description: ['It serves while `images.listen` is set in the settings. With one of the options it prints what others need: the key and the authority are files, the source says where they are to be.'],
  options: [
    { flags: '--key', help: 'Print the OpenPGP key that signs the lists' },
    { flags: '--authority', help: 'Print the certificate of the authority of its TLS' },
    { flags: '--source', help: 'Print a source for other nodes: a file for /etc/veld/sources' },
  ],
  examples: [['template server', 'Where it is, and its key'], ['template server --key > node1.asc', 'For the keyrings of others']],
  errors: ['published.not_found', 'published.damaged'],
  json: 'the server: url, error, authority, key, requests, bytes',
  async run(context, _args, { key, authority, source }) {
    const server = await (await context.client()).request<ImageServerState>('GET', '/v1/image-server');
    if (context.json) return context.printJson(server);
    const need = <T>(value: T | null, what: string, hint: string): T => {
      if (value === null) throw new VeldError('published.not_found', what, { hint });
      return value;
    };
    if (key) context.out(need(server.key, 'Nothing is signed yet.', 'The key is made with the first `veld template publish`.').armored);
    if (authority) context.out(need(server.authority, 'Its TLS has no authority of its own.', 'It has none without TLS, with a certificate of the settings, and while images.listen is empty.'));
    if (source) {
      const url = need(server.url, 'This node does not serve templates.', 'Set images.listen in the settings, for example to "0.0.0.0:8443", and start the daemon again.');
      if (url.startsWith('http:')) need(server.key, 'Nothing is signed yet, and without TLS there is nothing else to go by.', 'The key is made with the first `veld template publish`.');
      const name = new URL(url).hostname.replaceAll(/[^\w.-]/g, '') || 'node';
      context.out(`# Templates of ${name}\nprotocol=simplestreams\nurl=${url}\n${server.key ? `keyring=/etc/veld/keyrings/${name}.asc\n` : 'trust=https\n'}${server.authority === null ? '' : `ca=/etc/veld/keyrings/${name}.crt\n`}`);
    }
    if (key || authority || source) return;
    context.out(layoutFacts([
      ['Address', server.url ?? 'none: images.listen in the settings is empty'],
      ['State', server.url === null ? undefined : server.error ?? 'it serves'],
      ['TLS', server.url?.startsWith('https:') ? server.authority === null ? 'certificate of the settings' : 'authority of its own (--authority prints it)' : undefined],
      ['Signed by', server.key?.fingerprint ?? 'nobody yet'],
      ['Requests', server.url === null ? undefined : `${server.requests}, ${formatBytes(server.bytes)} sent`],
    ], context));
  },
});
