/** Whether a VE can go to another node, and what of it would not be the same there: looked at by both. */
import { freemem, release } from 'node:os';
import { statfsSync } from 'node:fs';
import { stateHasDroppable } from '../checkpoint/droppable.ts';
import { findHierarchies } from '../kernel/cgroup.ts';
import { hasDroppable, haveDroppable } from '../kernel/droppable.ts';
import { engineByFingerprint } from '../kernel/engine.ts';
import { MAX_STACK } from '../kernel/mounts.ts';
import { outgrown, processorExtensions } from '../kernel/processor.ts';
import { VeldError } from '../lib/errors.ts';
import { DEFAULT_POOL } from '../spec/disk-properties.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import { arrivalRecord } from '../ve/arrive.ts';
import { checkNotFreshCopy, copyRecord } from '../ve/arrive-copy.ts';
import type { VeContext } from '../ve/context.ts';
import { checkRoom } from '../ve/room.ts';
import { bootedBaseline, readRunState } from '../ve/run-folder.ts';
import { checkSuspendable, obstaclesOf } from '../ve/suspend.ts';
import { checkForm, shownNumber } from './forms.ts';
import { checkSnapshotsLeave } from './snapshots-away.ts';
import { checkSnapshotsCome } from './snapshots-here.ts';
import { type Kind, LEFT, type Offer, PROTOCOL } from './types.ts';

/** How it would go. @throws VeldError `ve.frozen`, `migration.refused` */
export async function checkDeparture(context: VeContext, ve: VeRecord, dropSnapshots: boolean): Promise<Kind> {
  if (!dropSnapshots) checkSnapshotsLeave(context, ve);
  const { init, between } = readRunState(context.settings, ve.number);
  if (between) throw new VeldError('ve.busy', `${ve.name} is rebooting just now.`);
  if (!init) {
    if (ve.suspended) checkNotFreshCopy(context, ve);
    return ve.suspended ? 'suspended' : 'stopped';
  }
  checkSuspendable(context, ve);
  const [obstacle, ...more] = await obstaclesOf(context, ve);
  if (obstacle && !['landlock', 'watch', 'queue'].includes(obstacle.kind)) { // those pass, most often: the dump waits for that
    throw new VeldError('checkpoint.refused', `${ve.name} cannot be moved now. ${obstacle.text}${more.length > 0 ? ` (and ${more.length} more: \`veld checkpoint --check ${ve.name}\`)` : ''}`, { hint: obstacle.remedy });
  }
  return 'running';
}

/** What its processes need of a host. */
export async function needsOf({ settings, engine, resources, states }: VeContext, ve: VeRecord, kind: Kind): Promise<Offer['needs']> {
  if (kind === 'stopped') return null;
  const memory = kind === 'running' ? resources.usage(ve.number)?.memoryBytes ?? 0 : states.size(ve.uuid);
  const used = kind === 'running' ? engine() : engineByFingerprint(settings.stateDir, ve.suspended!.engine);
  const all = processorExtensions();
  const { processor = all, told } = kind === 'running' ? runningProcessor(settings, ve) : states.manifest(ve.uuid);
  const droppable = kind === 'running' ? await haveDroppable(resources.pids(ve.number)) : stateHasDroppable(states.folder(ve.uuid));
  return { engine: used.fingerprint, architecture: process.arch, processor: [...processor], ...told && { beyond: all }, kernel: release(), cgroups: findHierarchies().mode, memory, ...droppable && { droppable } };
}

/** What the programs of a running VE may use. */
function runningProcessor(settings: VeContext['settings'], { number }: VeRecord): { processor?: readonly string[]; told?: boolean } {
  const baseline = bootedBaseline(settings, number);
  return baseline ? { processor: baseline, told: true } : {};
}

/**
 * What the target says to an offer.
 * @returns the record that the VE would have, whether its template must come along, and what will be otherwise
 * @throws VeldError why it cannot come
 */
export function checkOffer(context: VeContext, offer: Offer): { ve: VeRecord; template: boolean; notes: string[] } {
  const { settings, store } = context;
  const refuse = (message: string, hint?: string): never => { throw new VeldError('migration.refused', message, { ...hint !== undefined && { hint } }); };
  if (offer.protocol !== PROTOCOL) refuse(`That node speaks version ${PROTOCOL} of the migration protocol, and this one ${shownNumber(offer.protocol)}.`, 'Bring both nodes to the same version of Veld.');
  checkForm(offer);
  // Whether a VE may have a folder of this host is for this host's administrator to say.
  if (![undefined, '[]'].includes(JSON.stringify(offer.ve.properties['disk.mounts']))) refuse('It has folders of its host (disk.mounts), and no node gives its own to a VE that comes from elsewhere.', 'Stop it and unset disk.mounts (`veld set NAME disk.mounts=none`); set it again when it is there.');
  const ve = offer.copy ? copyRecord(context, offer.ve) : arrivalRecord(context, offer.ve);
  const notes: string[] = [];
  if (offer.needs) notes.push(...checkNeeds(context, offer.needs));
  notes.push(...checkSnapshotsCome(context, offer));
  const template = store.findTemplate(offer.ve.template);
  // It may have another number of layers here: its fingerprint is that of what they make together.
  if (offer.templateLayers < 1 || offer.templateLayers > MAX_STACK) refuse(`Its template cannot have ${shownNumber(offer.templateLayers)} layers.`);
  const crowded = offer.kind === 'running' ? checkRoom(context, ve) : undefined;
  if (crowded !== undefined) notes.push(`On that node: ${crowded}`);
  const { bavail, bsize } = statfsSync(settings.stateDir);
  const states = offer.snapshots.reduce((sum, { memory }) => sum + memory, offer.needs?.memory ?? 0);
  const wanted = offer.disk + states + (template ? 0 : offer.template.size) + LEFT.disk;
  if (bavail * bsize < wanted) refuse(`That node has ${mib(bavail * bsize)} of disk left for it, and it needs ${mib(wanted)}.`, 'Make room there.');
  const pool = resolveProperties(ve.properties)['disk.pool'];
  const room = context.volumes.room(pool);
  if (pool !== DEFAULT_POOL && room !== undefined && room.freeBytes < offer.disk + LEFT.disk) refuse(`The pool ${pool} of that node has ${mib(room.freeBytes)} left for it, and it needs ${mib(offer.disk + LEFT.disk)}.`, 'Make room there.');
  if (offer.copy) return { ve, template: template === undefined, notes: ve.addresses.length > 0 ? [...notes, `Addresses of the copy: ${ve.addresses.join(', ')}.`] : notes };
  if (ve.uidBase !== offer.ve.uidBase) notes.push('Its uids on the host become others.');
  const properties = resolveProperties(ve.properties);
  if (properties['network.mode'] === 'routed' && properties['network.publish'].length > 0) notes.push('Its published ports are those of the other node\'s addresses: connections that came by a port of this node end.');
  if (ve.addresses.some(isPrivate)) notes.push('Connections that left by this node\'s own address (masqueraded) end; those to and from its own addresses go on.');
  return { ve, template: template === undefined, notes };
}

const STARTED_WITH_LESS = 'Stop it first: at rest it can go there. One that was started with less goes while it runs: `veld set NAME cpu.baseline=nodes` (or a level) before its next start.';

function checkNeeds({ settings }: VeContext, needs: NonNullable<Offer['needs']>): string[] {
  if (needs.architecture !== process.arch) throw new VeldError('migration.refused', `That node is ${process.arch}, and its programs are for ${needs.architecture}.`, { hint: 'Stop it, and make it anew there.' });
  const here = new Set(processorExtensions());
  const missing = needs.processor.filter((name) => !here.has(name));
  if (missing.length > 0) {
    throw new VeldError('migration.refused', `The processor of that node has not ${missing.slice(0, 8).join(', ')}, which its programs may use.`, { hint: STARTED_WITH_LESS, details: { missing } });
  }
  const more = needs.beyond ? [] : outgrown(needs.processor);
  if (more.length > 0) {
    throw new VeldError('migration.refused', `The processor of that node has registers (${more.join(', ')}) that its programs leave no room for when they save theirs (XSAVE without XSAVEC): they would be overwritten.`, { hint: STARTED_WITH_LESS, details: { outgrown: more } });
  }
  try {
    engineByFingerprint(settings.stateDir, needs.engine);
  } catch (error) {
    throw new VeldError('migration.refused', `The engine ${needs.engine.slice(0, 12)}, which alone can read its state, is not on that node.`, { hint: 'Build the same engine there: `./quickstart` on both nodes from the same release of Debian.', cause: error });
  }
  if (needs.droppable && !hasDroppable()) {
    throw new VeldError('migration.refused', `The kernel of that node, ${release()}, cannot give its programs back what they have of memory for random numbers (MAP_DROPPABLE, since Linux 6.11; used since glibc 2.41, which Debian 13 has).`, { hint: 'Stop it, and start it there. Or give that node a newer kernel.' });
  }
  if (freemem() < needs.memory + LEFT.memory) throw new VeldError('migration.refused', `That node has ${mib(freemem())} of memory left, and it uses ${mib(needs.memory)}.`, { hint: 'Make room there.' });
  const fewer = (needs.beyond ?? []).filter((name) => !here.has(name));
  return [
    ...needs.kernel === release() ? [] : [`The other node's kernel is ${release()}, this one's ${needs.kernel}.`],
    ...fewer.length === 0 ? [] : [`The processor of that node has not ${fewer.slice(0, 8).join(', ')}: its programs were told so when it was started (cpu.baseline), but those that ask the processor themselves (such as JVMs, Go, Node, GnuTLS) may use it all the same, and end.`],
    // What a VE has for itself from a host with cgroup v2 no other can hold. What it was that it had it tells when it is there.
    ...needs.cgroups === 'v2' && findHierarchies().mode !== 'v2' ? ['That node has the controllers of control groups on cgroup v1, where a VE gets none: limits that it has set for its own services (MemoryMax=, TasksMax= ...) are not held there, until it is on a node with cgroup v2 again. Its own limits are.'] : [],
  ];
}

/** RFC 1918 and RFC 4193. */
function isPrivate(address: string): boolean {
  return /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|f[cd])/i.test(address);
}

function mib(bytes: number): string {
  return `${Math.round(bytes / (1 << 20))} MiB`;
}
