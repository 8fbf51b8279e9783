/**
 * What belongs to a VE, and what becomes of it when the VE moves. It is the whole list: belongings.test.ts compares it with the schema of the store, the records, the table
 * of properties and the folders of the state, so a new kind of state cannot be forgotten. docs/explanation/migration.md shows it.
 */
import type { PropertyName } from '../spec/properties.ts';
import type { LayerRecord, SnapshotRecord, TemplateRecord, VeRecord } from '../store/types.ts';
import type { Arrival } from '../ve/arrive.ts';
import type { Offer, OfferedSnapshot } from './types.ts';

/** `sent`: the target has it from the source, after it was checked; `made there`: the target gives it one of its own; `stays`: it is not the VE's, or is lost, and why. */
export type How = 'sent' | 'made there' | 'stays';

/** How, and what there is to say to that. */
export type Way = readonly [How, string];

/** Each field of a record; what an offer has is sent. */
type Fields<Row, Sent> = { [Field in keyof Row]: Field extends keyof Sent ? readonly ['sent', string] : Way };

/** Fields of records, and columns of the tables of the same names. */
export const RECORDS: { ves: Fields<VeRecord, Arrival>; snapshots: Fields<SnapshotRecord, OfferedSnapshot>; templates: Fields<TemplateRecord, Offer['template']>; layers: Fields<LayerRecord, object> } = {
  ves: {
    uuid: ['sent', 'must not be there'],
    number: ['made there', 'the next one'],
    name: ['sent', 'must be free there'],
    template: ['sent', 'the tree, too, where it is missing'],
    layers: ['sent', 'those above the template, as trees'],
    uidBase: ['sent', 'kept where it is free there; else another'],
    properties: ['sent', 'each is checked as if it were set there'],
    addresses: ['sent', 'must be free there'],
    mac: ['sent', 'must be free there'],
    desired: ['made there', 'as it came: running or not'],
    ready: ['made there', 'true with the hand-over'],
    guestDirty: ['sent', 'also set there where VEs are told of other resolvers'],
    createdAt: ['sent', ''],
    lastExit: ['stays', 'the end of a boot that the other node has not seen'],
    suspended: ['made there', 'since when it is there; the engine is that which was sent'],
    deployed: ['stays', 'a figure of the node that made it'],
    notStarted: ['stays', 'what stood in the way on the other node'],
  },
  snapshots: {
    id: ['sent', 'must be free there'],
    ve: ['sent', 'that of the VE'],
    name: ['sent', ''],
    description: ['sent', ''],
    parent: ['sent', ''],
    createdAt: ['sent', ''],
    layers: ['sent', 'as places in the list of layers that are sent'],
    properties: ['sent', 'each is checked as if it were set there'],
    engine: ['sent', 'need not be there: a note tells'],
  },
  templates: {
    fingerprint: ['sent', 'the tree must have it'],
    name: ['sent', 'with a part of the fingerprint where it is taken there'],
    os: ['sent', ''],
    release: ['sent', ''],
    architecture: ['sent', ''],
    layers: ['sent', 'one tree'],
    size: ['sent', 'for room and limits; measured anew'],
    createdAt: ['sent', ''],
    source: ['sent', ''],
  },
  layers: {
    id: ['made there', ''],
    uidBase: ['sent', 'or from 0, where the file system needs that'],
    createdAt: ['made there', ''],
    size: ['made there', 'measured'],
  },
};

/** All other tables of the store: how, why, and their columns. */
export const TABLES: Record<string, readonly [...Way, columns: string]> = {
  ve_layers: ['sent', 'the layers of the record', 've position layer uid_base'],
  snapshot_layers: ['sent', 'the layers of the record', 'snapshot position layer uid_base'],
  template_layers: ['sent', 'the layers of the record', 'template position layer uid_base'],
  handovers: ['made there', 'a word on each side', 'id role ve node epoch kind at'],
  warm_images: ['stays', 'belongs to the template on a node', 'template id layer uid_base host engine created_at'],
  pools: ['stays', 'belongs to the node', 'name path driver image created_at'],
  repositories: ['stays', 'belongs to the node', 'name location identity created_at'],
  nodes: ['stays', 'belongs to the node', 'id name address allow authorities facts ended created_at'],
  node_tokens: ['stays', 'belongs to the node', 'id key name allow created_at expires_at'],
  operations: ['stays', 'what was done here', 'seq id kind ve state percent message result error created_at ended_at request_id'],
  journal: ['stays', 'what is done here', 'seq operation kind ve phase data updated_at'],
  meta: ['stays', 'belongs to the node', 'key value'],
};

const AS_IT_IS: Way = ['sent', 'as it is'];

/** Properties of a VE. */
export const PROPERTY_WAYS: Record<PropertyName, Way> = {
  'description': AS_IT_IS,
  'hostname': AS_IT_IS,
  'cpu.weight': AS_IT_IS,
  'cpu.limit': AS_IT_IS,
  'cpu.burst': AS_IT_IS,
  'cpu.count': ['sent', 'there must be so many'],
  'cpu.mask': ['sent', 'must be there'],
  'cpu.nodes': ['sent', 'must be there'],
  'cpu.baseline': AS_IT_IS,
  'memory.limit': AS_IT_IS,
  'memory.swap': AS_IT_IS,
  'memory.oom_guarantee': ['sent', ''],
  'memory.guarantee': ['sent', 'there must be cgroup v2, where it is not 0'],
  'pids.limit': AS_IT_IS,
  'io.priority': ['sent', 'its disk must know priorities'],
  'io.limit': AS_IT_IS,
  'io.iops': AS_IT_IS,
  'disk.pool': ['sent', 'where the target has one of that name; else its default'],
  'disk.space': ['sent', 'its pool must hold it'],
  'disk.inodes': ['sent', 'its pool must hold it'],
  'disk.grace': AS_IT_IS,
  'disk.users_grace': AS_IT_IS,
  'disk.users': ['sent', 'its pool must count users'],
  'disk.mounts': ['stays', 'folders of the host: a VE that has any does not move'],
  'backup.repository': ['sent', 'it is backed up there when the target has a repository of that name'],
  'backup.schedule': AS_IT_IS,
  'backup.keep': AS_IT_IS,
  'ubc.numtcpsock': AS_IT_IS,
  'ubc.numothersock': AS_IT_IS,
  'ubc.numfile': ['sent', 'its kernel must count open files'],
  'ubc.numflock': ['sent', 'its kernel must count file locks'],
  'ubc.numpty': AS_IT_IS,
  'network.mode': AS_IT_IS,
  'network.bridge': ['sent', 'must be there'],
  'network.addresses': ['sent', 'must be free there'],
  'network.prefixes': ['sent', 'must be free there'],
  'network.gateway': AS_IT_IS,
  'network.mac': AS_IT_IS,
  'network.guard': AS_IT_IS,
  'network.interfaces': ['sent', 'their bridges must be there'],
  'network.dns': AS_IT_IS,
  'network.search': AS_IT_IS,
  'network.mtu': AS_IT_IS,
  'network.rate.in': AS_IT_IS,
  'network.rate.out': AS_IT_IS,
  'network.connections': ['sent', 'the table there must hold so many'],
  'network.publish': ['sent', 'must be free there'],
  'network.allow': AS_IT_IS,
  'network.deny': AS_IT_IS,
  'features.nesting': AS_IT_IS,
  'features.io_uring': AS_IT_IS,
  'features.sockets32': AS_IT_IS,
  'features.beancounters': AS_IT_IS,
  'boot.command': AS_IT_IS,
  'boot.user': AS_IT_IS,
  'boot.env': AS_IT_IS,
  'boot.cwd': AS_IT_IS,
  'boot.start': AS_IT_IS,
  'boot.order': AS_IT_IS,
  'boot.timeout': AS_IT_IS,
  'restart.policy': AS_IT_IS,
  'stop.timeout': AS_IT_IS,
  'shutdown.action': AS_IT_IS,
};

/** All that lies directly in the state folder. */
export const PLACES: Record<string, Way> = {
  'ves': ['sent', 'the upper, in rounds; overlayfs makes its work folder anew'],
  'layers': ['sent', 'those that the VE, its snapshots, or a missing template stand on'],
  'states': ['sent', 'the processes, also of one that runs'],
  'snapshots': ['sent', 'the processes of snapshots; warm images, which lie there, too, stay'],
  'logs': ['stays', 'what was written to the console of a boot here'],
  'history': ['stays', 'what it used here, half a megabyte; it begins anew there'],
  'traffic': ['sent', 'the sums of its traffic by class, with the grant; the target goes on from there'],
  'incoming': ['stays', 'what is on its way here'],
  'outgoing': ['stays', 'memory that is on its way from here'],
  'engine': ['stays', 'belongs to the node: the other one must have the engine'],
  'lxcfs': ['stays', 'belongs to the node'],
  'pools': ['stays', 'belongs to the node: what lies there of a VE is sent as what lies in the two above'],
  'repositories': ['stays', 'belongs to the node: passwords'],
  'cache': ['stays', 'belongs to the node'],
  'sources': ['stays', 'how new the lists of its sources were is what the node has seen'],
  'published': ['stays', 'belongs to the node: what it offers to others, and the key that signs it'],
  'builds': ['stays', 'belongs to the node: what builds of templates have said'],
  'nodes': ['stays', 'belongs to the node: its key'],
  'checkpoint.key': ['stays', 'belongs to the node: its files can be restored where they were written'],
  'veld.db': ['stays', 'the store: see its tables'],
  'daemon.lock': ['stays', 'belongs to the daemon'],
};

/** The list for people: names with the same way in one row. @returns rows of what, names, how, why */
export function belongings(): [kind: string, names: string, how: How, why: string][] {
  const kinds: [string, Record<string, readonly [How, string, ...unknown[]]>][] = [
    ['VE', RECORDS.ves], ['property', PROPERTY_WAYS], ['snapshot', RECORDS.snapshots], ['layer', RECORDS.layers], ['template', RECORDS.templates], ['other table', TABLES], ['in the state folder', PLACES],
  ];
  return kinds.flatMap(([kind, ways]) => [...Map.groupBy(Object.entries(ways), ([, [how, why]]) => `${how} ${why}`).values()].map((same): [string, string, How, string] => {
    const [how, why] = same[0]![1];
    return [kind, same.map(([name]) => `\`${name}\``).join(', '), how, why];
  }));
}
