/** Veld: an instance of its own, its daemon from the release bundle, its commands by bin/veld. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { makeInstance } from '../../test/lib/instance.ts';
import { TEMPLATE } from '../../test/lib/cache.ts';
import { until } from '../../test/lib/wait.ts';
import type { TemplateView } from '../../src/ve/types.ts';
import { namesOf } from '../../src/network/names.ts';
import { initOf, pidsOf } from '../lib/processes.ts';
import { insideOf } from '../lib/ready.ts';
import { jsonClient } from '../lib/http.ts';
import { outputOf } from '../lib/commands.ts';
import type { Contestant } from './types.ts';

const ROOT = join(import.meta.dirname, '../..');
const VELD = join(ROOT, 'bin/veld');

export interface VeldContestant extends Contestant {
  /** The template's root file system, owned by root: what the peers get a copy of. */
  readonly rootfs: string;
  /** Where its sources of templates are named. */
  readonly sourcesDir: string;
  readonly requests: NonNullable<Contestant['requests']>;
  readonly daemon: () => number;
  /** Delete by API: a crowd goes quicker so. */
  destroy(ve: string): Promise<void>;
  /** The two halves of a deploy. */
  create(ve: string): Promise<void>;
  start(ve: string): Promise<void>;
  /** What carries its name in the kernel's tables of the host. */
  tables(): { mounts: number; nftRules: number; nftElements: number; routes: number };
}

interface Detail { number: number; addresses: string[] }
interface Operation { state: string; error: { message: string } | null }

/** How VEs come to be: by a boot (alone, or `cold`, beside instances of the other kinds, where images and spares are made first), from a warm image, or by the name that a spare gets. */
export type Deploys = 'boot' | 'cold' | 'warm' | 'spare';

export async function openVeld(deploys: Deploys = 'cold'): Promise<VeldContestant> {
  const warm = deploys === 'warm' || deploys === 'spare';
  const instance = makeInstance({
    program: join(ROOT, 'dist/veldd.cjs'),
    settings: (settings) => {
      settings.log.level = 'info';
      settings.sourcesDir = join(settings.stateDir, '../sources');
      settings.deploy = { warm, spares: deploys === 'spare' ? 1 : 0 };
    },
  });
  await instance.start();
  const twins = deploys === 'cold' ? { warm: await openVeld('warm'), spare: await openVeld('spare') } : undefined;
  const client = jsonClient(instance.settings.socket);
  const operate = async (method: string, path: string, body?: unknown): Promise<void> => {
    const { state, error } = await client.call<Operation>(method, `${path}${path.includes('?') ? '&' : '?'}wait=1`, body);
    if (state !== 'succeeded') throw new Error(`${method} ${path}: ${state} ${error?.message ?? ''}`);
  };
  if (warm) await operate('POST', `/v1/templates/${TEMPLATE}/warm`);
  const layers = join(instance.settings.stateDir, 'layers');
  const layer = readdirSync(layers).find((name) => /^[0-9a-f]+$/.test(name)); // its one template's one layer
  const base = `/veld-${instance.name}`;
  const group = async (ve: string): Promise<string> => `${base}/${(await client.call<Detail>('GET', `/v1/ves/${ve}`)).number}`;
  return {
    name: 'veld',
    title: outputOf(VELD, ['--version']).trim(),
    env: { VELD_SETTINGS: instance.settingsFile },
    ...twins,
    async settle() {
      if (deploys === 'spare') await until('a spare VE', async () => (await client.call<TemplateView>('GET', `/v1/templates/${TEMPLATE}`)).spares > 0);
    },
    rootfs: join(layers, layer as string, 'fs'), sourcesDir: instance.settings.sourcesDir,
    commands: {
      deploy: (ve) => [[VELD, 'create', ve, '--template', TEMPLATE, '--start']],
      start: (ve) => [[VELD, 'start', ve]],
      stop: (ve) => [[VELD, 'stop', ve]],
      kill: (ve) => [[VELD, 'stop', '--force', ve]],
      execTrue: (ve) => [[VELD, 'exec', '-T', ve, '--', 'true']],
      list: () => [[VELD, 'list']],
      limitMemory: (ve) => [[VELD, 'set', ve, 'memory.limit=512M']],
      destroy: (ve) => [[VELD, 'destroy', '--yes', ve]],
    },
    requests: {
      deploy: (ve) => operate('POST', '/v1/ves', { name: ve, template: TEMPLATE, start: true }),
      execTrue: async (ve) => {
        const { exitCode } = await client.call<{ exitCode: number }>('POST', `/v1/ves/${ve}/exec`, { command: ['true'] });
        if (exitCode !== 0) throw new Error(`true ended with ${exitCode}`);
      },
      limitMemory: (ve) => operate('PATCH', `/v1/ves/${ve}/properties`, { changes: { 'memory.limit': '384M' } }),
      states: () => client.bytes('GET', '/v1/ves?details=true'), // with usage, as Incus' answer has it
      state: async (ve) => void await client.bytes('GET', `/v1/ves/${ve}`),
    },
    async limit(ve, { weight, cpu, memory, processes }) {
      const changes = { 'cpu.weight': weight, 'cpu.limit': cpu, 'memory.limit': memory && `${memory}M`, 'memory.swap': memory && '0', 'pids.limit': processes };
      await operate('PATCH', `/v1/ves/${ve}/properties`, { changes: Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) });
    },
    async plug(ve) {
      const address = (await client.call<Detail>('GET', `/v1/ves/${ve}`)).addresses.find((one) => one.includes('.'))!;
      return { address, host: /^default via (\S+)/m.exec(await insideOf(initOf(await group(ve))!, ['ip', '-4', 'route']))![1]! };
    },
    daemon: () => instance.pid as number,
    group,
    monitors: () => pidsOf(`${base}/monitors`),
    create: (ve) => operate('POST', '/v1/ves', { name: ve, template: TEMPLATE }),
    start: (ve) => operate('POST', `/v1/ves/${ve}/start`, {}),
    destroy: (ve) => operate('DELETE', `/v1/ves/${ve}?force=true`),
    tables: () => {
      const { table, linkPrefix } = namesOf(instance.name);
      const items = (JSON.parse(outputOf('nft', ['-j', 'list', 'table', 'inet', table])) as { nftables: { rule?: unknown; set?: { elem?: unknown[] } }[] }).nftables;
      const lines = (text: string, word: string): number => text.split('\n').filter((line) => line.includes(word)).length;
      return {
        mounts: lines(readFileSync('/proc/self/mountinfo', 'utf8'), instance.name),
        nftRules: items.filter(({ rule }) => rule !== undefined).length,
        nftElements: items.reduce((sum, { set }) => sum + (set?.elem?.length ?? 0), 0),
        routes: ['-4', '-6'].reduce((sum, family) => sum + lines(outputOf('ip', [family, 'route', 'show', 'table', 'all']), ` ${linkPrefix}`), 0),
      };
    },
    async close() {
      client.close();
      for (const twin of Object.values(twins ?? {})) await twin.close();
      await instance.destroy();
    },
  };
}
