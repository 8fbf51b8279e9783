/**
 * Clients of others, as they are: a real Incus, and LXC's download template, take what a node publishes and run it. Only where bench/peers has installed them before (Debian's packages); its daemon is
 * started here, with the authority of the node's TLS in its environment, and ended.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { TEMPLATE } from '../lib/cache.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';
import { wordsWith } from '../lib/words.ts';

const bench = process.env.VELD_BENCH_DIR ?? '/var/tmp/veld-bench';
const peers = join(import.meta.dirname, '../../bench/peers');
const missing = ['/usr/libexec/incus/incusd', '/usr/bin/incus', '/usr/bin/lxc-create', join(bench, 'incus')].find((path) => !existsSync(path));
const skip = missing !== undefined ? `${missing} is not there: bench/peers installs it` : existsSync(join(bench, 'incusd.pid')) ? 'the benchmark\'s Incus is running: it is somebody else\'s' : false;

const free = createServer().listen(0, '127.0.0.1');
await once(free, 'listening');
const { port } = free.address() as AddressInfo;
free.close();
// (Of the file, so that it ends after what has used it.)
const made = skip === false ? await fileInstance({ settings: (own) => { own.images.listen = `127.0.0.1:${port}`; } }) : undefined;

describe('clients of others', { skip }, () => {
  if (!made) return;
  const veld = made;
  const { ok } = wordsWith(veld);
  const authority = join(veld.dir, 'authority.crt');
  const env = { ...process.env, INCUS_DIR: join(bench, 'incus'), INCUS_CONF: join(veld.dir, 'incus-client'), SSL_CERT_FILE: authority, WGETRC: join(veld.dir, 'wgetrc'), LXC_CACHE_PATH: join(veld.dir, 'lxc-cache'), VELD_TEST_OK: undefined };
  const call = (program: string, ...args: string[]): { code: number | null; said: string } => {
    const { status, stdout, stderr } = spawnSync(program, args, { env, encoding: 'utf8', timeout: 300_000, stdio: ['ignore', 'pipe', 'pipe'] });
    return { code: status, said: `${stdout}${stderr}` };
  };
  const must = (program: string, ...args: string[]): string => {
    const { code, said } = call(program, ...args);
    assert.equal(code, 0, `${program} ${args.join(' ')}: ${said}`);
    return said;
  };
  const [alias, container] = [`debian/12/${TEMPLATE}`, `veld-${veld.name}`];

  before(async () => {
    await ok('template', 'publish', TEMPLATE, '--level', '1');
    writeFileSync(authority, await ok('template', 'server', '--authority'));
    writeFileSync(env.WGETRC, `ca_certificate = ${authority}\n`);
    mkdirSync(env.INCUS_CONF);
    must(peers);
  });
  after(() => {
    call('incus', 'delete', '--force', container);
    call('incus', 'image', 'delete', `veld-${veld.name}`);
    call('lxc-stop', '-P', join(veld.dir, 'lxc'), '-n', container, '-k');
    must(peers, '--stop');
  });

  test('Incus lists, copies and launches it', async () => {
    must('incus', 'remote', 'add', 'veld', `https://127.0.0.1:${port}`, '--protocol', 'simplestreams');
    assert.match(must('incus', 'image', 'list', 'veld:', '-f', 'csv', '-c', 'lfpd'), new RegExp(`^${alias}`, 'm'));
    must('incus', 'image', 'copy', `veld:${alias}`, 'local:', '--alias', `veld-${veld.name}`);
    must('incus', 'launch', `veld-${veld.name}`, container);
    await until('systemd in the container to be up', () => /running|degraded/.test(call('incus', 'exec', container, '--', 'systemctl', 'is-system-running').said), 60_000, 500);
    assert.match(must('incus', 'exec', container, '--', 'cat', '/etc/os-release'), /VERSION_ID="12"/);
  });

  test('LXC\'s download template takes it, and it starts', async () => {
    const [path, name] = [join(veld.dir, 'lxc'), container];
    mkdirSync(path);
    assert.match(must('lxc-create', '-P', path, '-n', name, '-t', 'download', '--', '--server', `127.0.0.1:${port}`, '--dist', 'debian', '--release', 'bookworm', '--arch', 'amd64', '--variant', TEMPLATE), /Downloading the rootfs/);
    assert.match(readFileSync(join(path, name, 'config'), 'utf8'), /common\.conf\nlxc\.arch = x86_64/);
    assert.match(readFileSync(join(path, name, 'rootfs/etc/os-release'), 'utf8'), /VERSION_ID="12"/);
    appendFileSync(join(path, name, 'config'), '\nlxc.net.0.type = empty\n'); // it would have a bridge of LXC's own
    must('lxc-start', '-P', path, '-n', name);
    await until('systemd in the container to be up', () => /running|degraded/.test(call('lxc-attach', '-P', path, '-n', name, '--', 'systemctl', 'is-system-running').said), 60_000, 500);
    must('lxc-stop', '-P', path, '-n', name, '-k');
    rmSync(path, { recursive: true });
  });
});
