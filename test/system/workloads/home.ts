/** Where the VE of a row lives, and what is done to it in each round: it is suspended and resumed on its node, or moved between two. */
import { after } from 'node:test';
import type { MigrateResult } from '../../../src/migration/types.ts';
import { guestTemplate } from '../../lib/cache.ts';
import { startInstance, type Instance } from '../../lib/instance.ts';
import { makeNode, pair } from '../../lib/nodes.ts';
import type { RowResult } from './row.ts';

export interface Home {
  /** The node on which the VE is. */
  now(): Instance;
  /** One round; its times go into the result. */
  round(result: RowResult): Promise<void>;
  destroy(): Promise<void>;
}

export type HomeKind = 'one node' | 'two nodes';

/** @param template of the VE; of two nodes only the first has it at the beginning */
export async function makeHome(kind: HomeKind, template: { suite: string; include: readonly string[] }): Promise<Home> {
  const templates = [await guestTemplate(template, () => startInstance({ noTemplate: true }))];
  return kind === 'one node' ? oneNode(await startInstance({ noTemplate: true, templates })) : twoNodes(templates);
}

function oneNode(veld: Instance): Home {
  return {
    now: () => veld,
    async round(result) {
      const begun = performance.now();
      await veld.api.operate('POST', '/v1/ves/ve/suspend');
      const suspended = performance.now();
      await veld.api.operate('POST', '/v1/ves/ve/resume');
      result.suspends.push(suspended - begun);
      result.resumes.push(performance.now() - suspended);
    },
    destroy: async () => void await veld.destroy(),
  };
}

/** The times of a round: how long the VE stood, and all of it. */
async function twoNodes(templates: string[]): Promise<Home> {
  // Neighbours are told where a VE is now: not those of this machine.
  const settings = (own: Instance['settings']): void => { own.network.uplinks = ['lo']; };
  const nodes = await Promise.all([makeNode('alpha', { settings, noTemplate: true, templates }), makeNode('beta', { settings, noTemplate: true })]);
  const destroy = async (): Promise<void> => void await Promise.all(nodes.map((node) => node.destroy()));
  after(destroy); // also when what follows fails
  for (const node of nodes) await node.start();
  await pair(nodes[0], nodes[1], 'beta');
  let at: 0 | 1 = 0;
  return {
    now: () => nodes[at],
    async round(result) {
      const to = at === 0 ? 1 : 0;
      const { stood, took } = (await nodes[at].api.operate('POST', '/v1/ves/ve/migrate', { node: ['alpha', 'beta'][to] })).result as MigrateResult;
      at = to;
      result.suspends.push(stood ?? Number.NaN);
      result.resumes.push(took);
    },
    destroy,
  };
}
