/** What a VE that moves and one that is copied have in common before anything of them is sent: where it shall go, whether it can, what is offered, and what the target says to that. */
import { randomBytes } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import type { Handover, TemplateRecord, VeRecord } from '../store/types.ts';
import { settled } from '../ve/clean-up.ts';
import { reload, type VeContext } from '../ve/context.ts';
import { resolversOf } from '../ve/identity-files.ts';
import { upperOf, userQuotas } from '../ve/disk.ts';
import { checkAccept } from './forms.ts';
import { FrameStream } from './frames.ts';
import { ZSTD } from './packing.ts';
import { checkDeparture, needsOf } from './preflight.ts';
import { refusal } from './refusal.ts';
import type { Along } from './snapshots-away.ts';
import { PROTOCOL, type Accept, type Kind, type MigrateRequest, type MigrateResult, type Offer, type Peer, type Peers, type Prepared, type Refuse } from './types.ts';

export interface Departure {
  ve: VeRecord;
  template: TemplateRecord;
  peer: Peer;
  kind: Kind;
  /** To be closed by whoever has it. */
  link: FrameStream;
}

/**
 * See that it can go, and call the target.
 * @param alone whether it goes without its snapshots
 * @throws VeldError `template.not_found`, `node.not_found`, `node.unreachable`, `migration.refused`, and why it cannot be frozen
 */
export async function depart(context: VeContext, peers: Peers, uuid: string, { node, bandwidth }: MigrateRequest, alone: boolean, task: Task): Promise<Departure> {
  const { store, settings } = context;
  await settled(context, reload(store, uuid).number);
  const ve = reload(store, uuid);
  const template = store.findTemplate(ve.template);
  if (!template) throw new VeldError('template.not_found', `The template of ${ve.name} is gone: there is nothing that it could stand on elsewhere.`);
  task.progress(1, 'looking whether it can go');
  const peer = peers.find(node);
  const kind = await checkDeparture(context, ve, alone);
  const link = new FrameStream(await peers.open(peer));
  const rate = bandwidth ?? settings.migration.bandwidth;
  if (rate !== null) link.limit(rate);
  return { ve, template, peer, kind, link };
}

/** What is said of the VE. @param along its snapshots that go with it */
export async function offerOf(context: VeContext, { ve, template: { layers, ...template }, kind }: Departure, along: Along, dryRun: boolean): Promise<Offer> {
  const { store, volumes } = context;
  const own = ve.layers.slice(layers.length);
  const sizes = await Promise.all([...own, ...along.layers].map(({ id }) => volumes.layerUsage(id)));
  const quotas = userQuotas(context, ve);
  const { uuid, name, properties, addresses, mac, uidBase, createdAt, guestDirty } = ve;
  return {
    type: 'offer', protocol: PROTOCOL, id: randomBytes(16).toString('hex'), epoch: epochOf(store.listHandovers(), uuid) + 1, dryRun, kind,
    ve: { uuid, name, template: ve.template, properties, addresses, mac, uidBase, createdAt, guestDirty, resolvers: resolversOf(context, ve) },
    needs: await needsOf(context, ve, kind), template, templateLayers: layers.length, layers: own.map((layer) => ({ uidBase: layer.uidBase })),
    snapshots: along.snapshots, snapshotLayers: along.layers.map((layer) => ({ uidBase: layer.uidBase })),
    diskBase: upperOf(volumes, ve).base, disk: await volumes.usage(uuid) + sizes.reduce((sum, size) => sum + size, 0), ...quotas && { quotas }, compress: [ZSTD],
  };
}

/** How often the VE has moved, as far as is known here. */
function epochOf(handovers: readonly Handover[], uuid: string): number {
  return handovers.filter(({ ve, role }) => ve === uuid && role === 'target').reduce((most, { epoch }) => Math.max(most, epoch), 0);
}

/** Offer it. @returns what the target says @throws VeldError why it does not want it */
export async function agree(link: FrameStream, offer: Offer): Promise<Accept> {
  link.send(offer);
  const reply = await link.receive<Accept | Refuse>('accept', 'refuse');
  if (reply.type === 'refuse') throw refusal(reply);
  const accept = checkAccept(reply);
  if (accept.compress) link.compress();
  return accept;
}

/** The result of something of which nothing has been done yet. */
export function noResult({ peer, kind }: Departure, { notes }: Accept): MigrateResult {
  return { node: peer.name, number: null, kind, copy: null, notes, bytes: 0, uncompressed: 0, took: 0, stood: null, expected: null, memoryRounds: 0, phases: null, trouble: null };
}

/** Hear that all of it is there. @throws VeldError why it is not */
export async function prepared(link: FrameStream): Promise<void> {
  const reply = await link.receive<Prepared | Refuse>('prepared', 'refuse');
  if (reply.type === 'refuse') throw refusal(reply);
}
