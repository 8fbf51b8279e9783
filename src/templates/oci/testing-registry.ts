/** Pulls from a registry with TLS, in a process whose /etc/containers is its own. Arguments: a layout, a folder to work in. Prints what came of it, as JSON. */
import { once } from 'node:events';
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { makeAuthority, makeTlsCertificate } from '../../lib/certificates.ts';
import type { Task } from '../../ops/types.ts';
import { fillFromOci } from './fill.ts';
import { parseOci } from './reference.ts';
import { registryOf, spoil } from './testing.ts';

const [layout = '', folder = ''] = process.argv.slice(2);
const authority = makeAuthority('a registry of tests', 2);
const { certificate, key } = makeTlsCertificate(authority, '127.0.0.1', 2, ['127.0.0.1']);
const asked: string[] = [];
const spoilt = join(folder, 'spoilt-registry');
cpSync(layout, spoilt, { recursive: true });
spoil(spoilt, (content) => content[0] === 0x1f);

let listener = registryOf(layout, (path) => asked.push(path));
const server = createServer({ cert: certificate, key }, (request, answer) => listener(request, answer));
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
writeFileSync('/etc/containers/policy.json', '{"default":[{"type":"insecureAcceptAnything"}]}');

const task = { signal: new AbortController().signal, progress() {}, warn() {} } as unknown as Task;
const pull = async (name: string): Promise<string> => {
  const path = join(folder, `pulled-${name}`);
  await fillFromOci({ reference: parseOci(`docker://${host}/app:1`), name, architecture: 'amd64', scratch: join(folder, 'scratch'), authFile: join(folder, 'none') }, { path }, task);
  return path;
};
const refusal = (name: string): Promise<string> => pull(name).then(() => 'taken', (error: { code: string; message: string }) => `${error.code}: ${error.message}`);

const without = await refusal('without');
mkdirSync(`/etc/containers/certs.d/${host}`, { recursive: true });
writeFileSync(`/etc/containers/certs.d/${host}/ca.crt`, authority.certificate);
const trusted = readdirSync(join(await pull('trusted'), 'etc')).toSorted();
listener = registryOf(spoilt);
const changed = await refusal('changed');
server.closeAllConnections();
server.close();
rmSync(spoilt, { recursive: true });
process.stdout.write(JSON.stringify({ trusted, without, changed, asked }));
