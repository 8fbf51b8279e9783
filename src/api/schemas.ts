/**
 * Shapes of everything that crosses the API, as TypeBox schemas: requests are checked by them, answers are documented by them.
 *
 * A schema with a `title` becomes a component of the OpenAPI document. Requests refuse what they do not know; patterns here keep
 * control characters and wrong types out, the meaning (is the name free, is the address ours) is judged by the floors below.
 */
import { Type, type Static, type TSchema } from '@fastify/type-provider-typebox';

const closed = { additionalProperties: false } as const;

/** `schema` or null. */
export function nullable<T extends TSchema>(schema: T) {
  return Type.Union([schema, Type.Null()]);
}

const printable = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: '^[!-~]+$' });
/** A name to be: what it may hold is told by the rules of names (`name.invalid`), which say it better than a pattern. */
export const newName = Type.String({ maxLength: 200 });
const withoutNul = (maxLength: number) => Type.String({ maxLength, pattern: '^[^\\u0000]*$' });
const time = Type.String({ description: 'ISO 8601' });

/** What a key in a path may be made of: wide, so that a mistyped name is `not found` and not a wrong request. */
const KEY = '^[!-.0-~]{1,100}$';
/** Name, number or UUID of a VE in a path. */
export const VeParams = Type.Object({ ve: Type.String({ pattern: KEY, description: 'Name, number or UUID of the VE' }) }, closed);
/** Name or fingerprint (or its beginning) in a path. */
/** A VE, and a snapshot of it by name or id. */
export const SnapshotParams = Type.Object({ ve: VeParams.properties.ve, snapshot: Type.String({ pattern: KEY, description: 'Name or id of the snapshot' }) }, closed);
export const TemplateParams = Type.Object({
  template: Type.String({ pattern: KEY, description: 'Name, fingerprint, or at least 8 digits of it' }),
}, closed);
export const OperationParams = Type.Object({ id: Type.String({ pattern: '^[A-Za-z0-9-]{1,64}$' }) }, closed);
export const SessionParams = Type.Object({ session: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' }) }, closed);

export const DiffQuery = Type.Object({ to: Type.Optional(Type.String({ pattern: KEY, description: 'Name or id of another snapshot; default: the VE as it is now' })) }, closed);

const wait = Type.Optional(Type.Boolean({ description: 'Stay until the operation has ended, and hear of each change, one record a line' }));
/** Of routes that take nothing in the query. */
export const NoQuery = Type.Object({}, closed);
export const ListQuery = Type.Object({
  details: Type.Optional(Type.Boolean({ description: 'With properties, usage and traffic, as one VE has them' })),
}, closed);
export const WaitQuery = Type.Object({ wait }, closed);
export const DestroyQuery = Type.Object({ wait, force: Type.Optional(Type.Boolean({ description: 'Also when it runs: it is stopped first' })) }, closed);
export const LogsQuery = Type.Object({
  tail: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000, description: 'Lines from the end' })),
  follow: Type.Optional(Type.Boolean({ description: 'Stay, and send each line as it comes: one object a line' })),
}, closed);
export const EventsQuery = Type.Object({
  since: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'First the kept events with a higher seq' })),
}, closed);
export const NodeParams = Type.Object({ node: Type.String({ pattern: KEY, description: 'Name of the node' }) }, closed);
export const NodesQuery = Type.Object({ look: Type.Optional(Type.Boolean({ description: 'Ask each of them how it is, for at most 4 s' })) }, closed);
export const OperationsQuery = Type.Object({ limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })) }, closed);

const PropertyChanges = Type.Record(Type.String({ pattern: '^[!-~]{1,100}$' }), Type.Unknown(),
  { ...closed, maxProperties: 100, description: 'By property name, see /v1/properties' });

const presetName = Type.String({ pattern: KEY, description: 'Its properties, below those that are given here' });

export const NoBody = Type.Object({}, closed);
/** Beside what is laid into it: personal.ts. */
export const createFields = {
  name: newName,
  template: printable(64),
  preset: Type.Optional(presetName),
  properties: Type.Optional(PropertyChanges),
  start: Type.Optional(Type.Boolean()),
};
export const StartBody = Type.Object({ discardState: Type.Optional(Type.Boolean({ description: 'Boot a suspended VE anew: what it was doing is lost' })) }, { ...closed, title: 'StartRequest', examples: [{ discardState: true }] });
export const CloneBody = Type.Object({
  name: newName,
  properties: Type.Optional(PropertyChanges),
  live: Type.Optional(Type.Boolean({ description: 'With the processes of a running VE: both run afterwards' })),
  snapshot: Type.Optional(Type.String({ maxLength: 100, description: 'Name or id of a snapshot: as the VE was then' })),
}, { ...closed, title: 'CloneRequest', examples: [{ name: 'web2', live: true }] });
export const nodePath = Type.String({ maxLength: 4095, pattern: '^/[^\\u0000]*$', description: 'Absolute path on the node' });
/** How a file is written. */
export const packing = {
  compress: Type.Optional(Type.Enum(['zstd', 'none'], { description: 'Default zstd' })),
  encrypt: Type.Optional(Type.String({ maxLength: 2300, description: 'For whom: a recipient of age, or the id or address of a gpg key that root on the node has' })),
};
const addresses = Type.Array(printable(64), { maxItems: 64, description: 'Default: those that it had, where they are free' });
export const CheckpointBody = Type.Object({
  file: nodePath,
  keepRunning: Type.Optional(Type.Boolean({ description: 'It runs on after a pause; else it is suspended' })),
  withTemplate: Type.Optional(Type.Boolean({ description: 'Its template goes along, for a node that has not got it' })),
  tcp: Type.Optional(Type.Enum(['established', 'close'], { description: 'Whether its TCP connections go on when it is restored; default established' })),
  ...packing,
}, { ...closed, title: 'CheckpointRequest', examples: [{ file: '/srv/web.veld', keepRunning: true }] });
export const RestoreBody = Type.Object({
  file: nodePath,
  name: Type.Optional(newName),
  addresses: Type.Optional(addresses),
  tcp: Type.Optional(Type.Enum(['established', 'close'], { description: 'close: its TCP connections are closed in any case' })),
  identity: Type.Optional(nodePath),
}, { ...closed, title: 'RestoreRequest', examples: [{ file: '/srv/web.veld', name: 'web2' }] });
/** What a VE out of a file or a backup is to be. */
export const ImportChoices = { name: Type.Optional(newName), addresses: Type.Optional(addresses), properties: Type.Optional(PropertyChanges) };
export const MigrateBody = Type.Object({
  node: Type.String({ minLength: 1, maxLength: 63, description: 'Name of a paired node' }),
  dryRun: Type.Optional(Type.Boolean({ description: 'Only look whether it can go' })),
  dropSnapshots: Type.Optional(Type.Boolean({ description: 'Leave its snapshots behind: they are lost' })),
  maxFreeze: Type.Optional(Type.Number({ exclusiveMinimum: 0, description: 'Refuse to move a running VE that is expected to stand for longer than this, in milliseconds' })),
  bandwidth: Type.Optional(Type.Integer({ minimum: 65_536, maximum: 2 ** 50, description: 'Bytes per second that are sent at most; default `migration.bandwidth` of the settings' })),
  copy: Type.Optional(Type.Boolean({ description: 'Make a copy of it there, which is another VE, and let it go on here; its snapshots stay here in any case' })),
  as: Type.Optional({ ...newName, description: 'Name of the copy; default: that of the VE' }),
}, { ...closed, title: 'MigrateRequest', examples: [{ node: 'node2' }] });

export const SnapshotBody = Type.Object({
  description: Type.Optional(Type.String({ maxLength: 1024, pattern: '^[^\\u0000-\\u001f\\u007f]*$', description: 'What it is for, one line' })),
  name: newName,
  live: Type.Optional(Type.Boolean({ description: 'With the processes of a running VE' })),
}, { ...closed, title: 'SnapshotRequest', examples: [{ name: 'before-upgrade', live: true }] });
export const StopBody = Type.Object({
  force: Type.Optional(Type.Boolean({ description: 'Do not ask, kill' })),
  timeout: Type.Optional(Type.Number({ minimum: 0, maximum: 86_400, description: 'Seconds before it is forced; default stop.timeout' })),
}, { ...closed, title: 'StopRequest', examples: [{ timeout: 30 }] });
export const RenameBody = Type.Object({ name: newName }, { ...closed, title: 'RenameRequest', examples: [{ name: 'shop' }] });
export const SetBody = Type.Object({
  preset: Type.Optional(presetName),
  changes: PropertyChanges,
  nextStart: Type.Optional(Type.Boolean({ description: 'Accept properties that need a restart' })),
  scope: Type.Optional(Type.Union([Type.Literal('both'), Type.Literal('live'), Type.Literal('config')], { description: 'live: limits of the running VE only, until it starts anew; config: only what is kept, for its next start; default both' })),
}, { ...closed, title: 'SetRequest', examples: [{ changes: { 'memory.limit': '2G', 'cpu.limit': null } }] });

const execFields = {
  command: Type.Array(withoutNul(131_072), { minItems: 1, maxItems: 4096, description: 'Program and arguments; no shell' }),
  user: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_][A-Za-z0-9_.$-]{0,63}$', description: 'Name or uid in the VE; default root' })),
  env: Type.Optional(Type.Record(Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]{0,255}$' }), withoutNul(131_072), { ...closed, maxProperties: 1000 })),
  cwd: Type.Optional(Type.String({ maxLength: 4095, pattern: '^/[^\\u0000]*$' })),
};
export const ExecBody = Type.Object({ ...execFields, stdin: Type.Optional(Type.String({ maxLength: 1 << 20, description: 'Text for standard input' })) },
  { ...closed, title: 'ExecOnceRequest', examples: [{ command: ['systemctl', 'is-system-running'] }] });
const cells = Type.Integer({ minimum: 1, maximum: 65_535 });
const tty = Type.Optional(nullable(Type.Object({ columns: cells, rows: cells, term: Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$' }) }, closed)));
export const SessionBody = Type.Object({ ...execFields, tty }, { ...closed, title: 'ExecRequest', examples: [{ command: ['bash'], tty: { columns: 80, rows: 24, term: 'xterm-256color' } }] });
export const ShellBody = Type.Object({ user: execFields.user, env: execFields.env, tty }, { ...closed, title: 'ShellRequest', examples: [{ user: 'www-data', tty: { columns: 80, rows: 24, term: 'xterm-256color' } }] });
export const ConsoleBody = Type.Object({
  tail: Type.Optional(Type.Integer({ minimum: 0, maximum: 100_000, description: 'Lines of the log to begin with; default 20' })),
  wait: Type.Optional(Type.Boolean({ description: 'Also while the VE is stopped: until its next boot, and again' })),
  size: Type.Optional(Type.Object({ columns: cells, rows: cells }, closed)),
}, { ...closed, title: 'ConsoleRequest', examples: [{ tail: 100, size: { columns: 80, rows: 24 } }] });
const guestPath = Type.String({ maxLength: 4095, pattern: '^/[^\\u0000]*$', description: 'Absolute, in the VE' });
const shape = Type.Enum(['tree', 'content'], { description: 'tree: a tar stream with one root `d`; content: of one ordinary file' });
export const ReadBody = Type.Object({
  path: guestPath, as: shape, follow: Type.Optional(Type.Boolean({ description: 'Follow a link that the path itself is' })),
}, { ...closed, title: 'ReadRequest', examples: [{ path: '/etc/hostname', as: 'content' }] });
export const WriteBody = Type.Object({
  path: guestPath, as: shape,
  folder: Type.Optional(Type.Boolean({ description: 'The tree is a folder' })),
  name: Type.Optional(Type.String({ maxLength: 255, pattern: '^(?!\\.{1,2}$)[^/\\u0000]*$', description: 'Name to use when the path is a folder; empty: into that folder itself' })),
}, { ...closed, title: 'WriteRequest', examples: [{ path: '/srv/motd', as: 'content' }] });

/** Signals that a client may send to its command. */
export const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGKILL', 'SIGUSR1', 'SIGUSR2', 'SIGCONT', 'SIGSTOP', 'SIGTSTP', 'SIGWINCH'] as const;
/** Control frames of a session from the client. */
export const ControlMessage = Type.Union([
  Type.Object({ type: Type.Literal('resize'), columns: cells, rows: cells }, closed),
  Type.Object({ type: Type.Literal('signal'), signal: Type.Enum([...SIGNALS]) }, closed),
  Type.Object({ type: Type.Literal('eof') }, closed),
]);
export type ControlMessage = Static<typeof ControlMessage>;

const packageName = Type.String({ pattern: '^[a-z0-9][a-z0-9+.:-]{0,99}$' });
export const BuildBody = Type.Object({
  suite: Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,63}$' }),
  init: Type.Optional(Type.Enum(['systemd', 'sysvinit', 'busybox', 'none'], { description: 'What the template boots; default systemd. none: for VEs that run one command' })),
  name: Type.Optional(newName),
  include: Type.Optional(Type.Array(packageName, { maxItems: 500 })),
  mirror: Type.Optional(Type.String({ maxLength: 500, pattern: '^(https?|file)://[!-~]+$' })),
}, { ...closed, title: 'BuildRequest', examples: [{ suite: 'bookworm', include: ['nginx'] }] });
export const ImportBody = Type.Object({
  file: Type.String({ maxLength: 4095, pattern: '^/[^\\u0000-\\u001f]+$', description: 'Absolute path on the node' }),
  name: newName,
  init: Type.Optional(Type.Boolean({ description: 'false: it may lack /sbin/init and /bin/sh; for VEs that run one command. Default true' })),
}, { ...closed, title: 'ImportRequest', examples: [{ file: '/root/rootfs.tar.xz', name: 'mine' }] });

export const ErrorBodySchema = Type.Object({
  code: Type.String({ description: 'Row of the error table' }),
  message: Type.String({ description: 'What failed, and why' }),
  hint: Type.String({ description: 'What to do about it' }),
  details: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
}, { title: 'ErrorBody' });

export const Operation = Type.Object({
  id: Type.String(),
  kind: Type.String({ description: 'Verb, e.g. create' }),
  ve: nullable(Type.String({ description: 'UUID of the VE' })),
  state: Type.Enum(['running', 'succeeded', 'failed', 'cancelled', 'interrupted']),
  percent: Type.Number({ minimum: 0, maximum: 100 }),
  message: Type.String(),
  result: Type.Unknown(),
  error: nullable(ErrorBodySchema),
  createdAt: time,
  endedAt: nullable(time),
  requestId: nullable(Type.String()),
}, { title: 'Operation' });

const veFields = {
  uuid: Type.String(),
  number: Type.Integer(),
  name: Type.String(),
  status: Type.Enum(['stopped', 'starting', 'running', 'frozen', 'stopping', 'suspended', 'failed']),
  template: Type.Object({ fingerprint: Type.String(), name: nullable(Type.String()) }),
  addresses: Type.Array(Type.String()),
  mac: Type.String(),
  uidBase: Type.Integer(),
  pid: nullable(Type.Integer({ description: 'Host pid of init' })),
  startedAt: nullable(time),
  createdAt: time,
  set: Type.Record(Type.String(), Type.Unknown(), { description: 'Properties set by hand' }),
  lastExit: nullable(Type.Object({ code: Type.Integer(), at: time, reason: Type.String() })),
  suspendedAt: nullable(Type.String({ description: 'ISO 8601; since when its processes are on the disk' })),
  deployed: nullable(Type.Enum(['warm', 'cold'])),
  notStarted: nullable(Type.Object({ at: time, reason: Type.String() }, { description: 'Why the daemon did not start it when it should have' })),
  health: nullable(Type.Enum(['ok', 'unverified'])),
};
export const Snapshots = Type.Array(Type.Object({
  id: Type.String(),
  ve: Type.String({ description: 'UUID' }),
  name: Type.String(),
  description: Type.String(),
  parent: nullable(Type.String({ description: 'Id of the snapshot that the VE was made, or brought back to, last before it' })),
  createdAt: time,
  layers: Type.Array(Type.Object({ id: Type.String(), uidBase: Type.Integer() })),
  properties: Type.Record(Type.String(), Type.Unknown(), { description: 'The VE\'s own ones then' }),
  engine: nullable(Type.String({ description: 'That can read its processes; null: it was not running' })),
}), { title: 'Snapshots' });
export const Differences = Type.Array(Type.Object({
  path: Type.String({ description: 'In the VE, absolute; each character is one byte of the name (latin1)' }),
  change: Type.Enum(['added', 'removed', 'changed']),
  type: Type.Enum(['file', 'folder', 'symlink', 'fifo', 'character', 'block']),
}), { title: 'Differences' });
export const Obstacles = Type.Array(Type.Object({
  kind: Type.String({ description: 'io_uring, namespace, console, mount, link, traced, ...' }),
  process: nullable(Type.Object({ pid: Type.Integer({ description: 'In the VE' }), name: Type.String() })),
  text: Type.String(),
  remedy: Type.String(),
}), { title: 'Obstacles' });
export const Ve = Type.Object(veFields, { title: 'Ve' });
export const VeDetails = Type.Object({
  ...veFields,
  properties: Type.Record(Type.String(), Type.Unknown(), { description: 'All properties, defaults filled in' }),
  pending: Type.Array(Type.String(), { description: 'Properties that wait for the next start' }),
  grantedTo: nullable(Type.String({ description: 'Node to which it was granted, and which has not said yet whether it has it' })),
  usage: nullable(Type.Object({ cpuSeconds: Type.Number(), memoryBytes: Type.Number(), tasks: Type.Number() })),
  traffic: nullable(Type.Object({ rxBytes: Type.Number(), txBytes: Type.Number(), rxPackets: Type.Number(), txPackets: Type.Number() })),
  link: Type.String({ description: 'Host side of eth0; empty without one' }),
  links: Type.Array(Type.Object({
    name: Type.String({ description: 'Inside the VE' }),
    link: Type.String({ description: 'On the host' }),
    mac: Type.String(),
    hostMac: Type.String({ description: 'Of the host\'s side' }),
    mtu: Type.Integer({ description: 'Bytes' }),
    bridge: nullable(Type.String({ description: 'Bridge of the host; null: routed' })),
    addresses: Type.Array(Type.String()),
    prefixes: Type.Array(Type.String({ description: 'Routed to the VE as a whole' })),
    setup: Type.Enum(['host', 'auto', 'own'], { description: 'Who sets addresses and routes inside: the host, the VE by DHCP and router advertisements, the VE as it likes' }),
  })),
}, { title: 'VeDetail' });

const { uuid, number, name, status, pid, startedAt } = veFields;
const clock = Type.Number({ description: 'When the counters were read: seconds since the host booted' });
export const UsageSampleSchema = Type.Object({
  time,
  host: Type.Object({
    cpus: Type.Integer(), memoryBytes: Type.Number(), availableBytes: Type.Number(), load: Type.Array(Type.Number(), { description: 'Averages of 1, 5 and 15 minutes' }),
  }),
  ves: Type.Array(Type.Object({
    uuid, number, name, status, pid, startedAt,
    limits: Type.Object({ cpuPercent: nullable(Type.Number()), memoryBytes: nullable(Type.Number()), tasks: nullable(Type.Number()) }),
    clock, usage: VeDetails.properties.usage, traffic: VeDetails.properties.traffic,
  })),
}, { title: 'UsageSample' });
const figures = Type.Object({ rxBytes: Type.Number(), rxPackets: Type.Number(), txBytes: Type.Number(), txPackets: Type.Number() });
export const TrafficReportSchema = Type.Object({
  classes: Type.Array(Type.Object({ name: Type.String(), networks: Type.Array(Type.String()) }), { description: 'As the settings have them; inside first, and outside, which has all the rest, last' }),
  ves: Type.Array(Type.Object({ uuid, number, name, classes: Type.Record(Type.String(), figures, { description: 'Since the VE was made' }) })),
}, { title: 'TrafficReport' });
export const ConnectionUseSchema = Type.Object({
  held: nullable(Type.Integer({ description: 'Now; null: this kernel does not tell, or all VEs together have too many' })),
  most: nullable(Type.Integer({ description: 'network.connections; null: no limit' })),
  refused: Type.Integer({ description: 'Since the VE was started, or the limit was set' }),
}, { title: 'ConnectionUse' });
export const VeProcessesSchema = Type.Object({
  clock,
  more: Type.Integer({ description: 'How many there are beside those listed' }),
  processes: Type.Array(Type.Object({
    pid: Type.Integer({ description: 'As the host sees it' }), insidePid: Type.Integer(), uid: Type.Integer({ description: 'Inside' }),
    user: nullable(Type.String({ description: 'By the VE\'s own /etc/passwd' })), state: Type.String({ description: 'One letter, as in proc(5)' }), threads: Type.Integer(),
    cpuSeconds: Type.Number(), memoryBytes: Type.Number({ description: 'In RAM' }), startedAt: time,
    command: Type.String({ description: 'Command line, or the program\'s name in brackets: text that the process chose' }),
  })),
}, { title: 'VeProcesses' });
const amount = (description: string) => nullable(Type.Integer({ description }));
export const BeancountersSchema = Type.Object({
  number: Type.Integer({ description: 'Number of the VE' }),
  rows: Type.Array(Type.Object({
    name: Type.String(),
    unit: Type.Enum(['items', 'pages', 'bytes'], { description: 'Pages of 4096 bytes' }),
    held: Type.Integer(), maxheld: Type.Integer(), barrier: amount('null: unlimited'), limit: amount('null: unlimited'),
    failcnt: Type.Integer({ description: 'Refusals since the VE was started' }),
    kept: Type.Array(Type.Enum(['held', 'maxheld', 'failcnt']), { description: 'What the kernel keeps; the others say nothing' }),
    counted: nullable(Type.String({ description: 'What keeps it' })),
    enforced: nullable(Type.String({ description: 'What refuses more than the limit; null: nothing' })),
    note: nullable(Type.String({ description: 'What the numbers leave out' })),
  })),
}, { title: 'Beancounters' });

export const Template = Type.Object({
  fingerprint: Type.String(),
  name: Type.String(),
  os: Type.String(),
  release: Type.String(),
  architecture: Type.String(),
  layers: Type.Array(Type.Object({ id: Type.String(), uidBase: Type.Integer() })),
  size: Type.Number({ description: 'Bytes' }),
  createdAt: time,
  source: Type.Record(Type.String(), Type.Unknown()),
  uses: Type.Integer({ description: 'VEs that stand on it' }),
  warm: nullable(Type.String({ description: 'ISO 8601; since when there is a warm image of it that can be used here' })),
  spares: Type.Integer({ description: 'VEs of it that stand ready for a deploy; they are counted nowhere else' }),
}, { title: 'Template' });

const encoding = Type.Enum(['utf8', 'base64']);
export const ExecResult = Type.Object({
  exitCode: Type.Integer(),
  stdout: Type.String(),
  stderr: Type.String(),
  encoding: Type.Object({ stdout: encoding, stderr: encoding }, { description: 'base64 when the output is not UTF-8' }),
  truncated: Type.Boolean({ description: 'More than 1 MiB came on a stream; the rest is dropped' }),
}, { title: 'ExecResult' });
export const ConsoleLog = Type.Object({ log: Type.String({ description: 'Text, oldest first' }) }, { title: 'ConsoleLog' });
export const ConsoleLine = Type.Object({ line: Type.String({ description: 'Begins with its time' }) }, { title: 'ConsoleLine' });
export const SessionSecret = Type.Object({ session: Type.String({ description: 'Good for one WebSocket on /v1/sessions/, for 10 s' }) }, { title: 'Session' });
export const About = Type.Object({
  name: Type.Literal('veld'), version: Type.String(), api: Type.Literal('v1'), instance: Type.String(), startedAt: time,
}, { title: 'About' });
export const Property = Type.Object({
  name: Type.String(),
  type: Type.Record(Type.String(), Type.Unknown()),
  default: Type.Unknown(),
  change: Type.Enum(['live', 'restart', 'create']),
  help: Type.String(),
  vzctl: Type.Optional(Type.Object({ option: Type.String(), key: Type.String() })),
  needs: Type.Optional(Type.String()),
}, { title: 'Property' });
export const DoctorReportSchema = Type.Object({
  checks: Type.Array(Type.Object({
    id: Type.String(),
    title: Type.String(),
    status: Type.Enum(['ok', 'warn', 'fail', 'info']),
    message: Type.String(),
    consequence: Type.Optional(Type.String()),
    remedy: Type.Optional(Type.String()),
  })),
}, { title: 'DoctorReport' });
export const EventSchema = Type.Object({
  seq: Type.Integer(),
  time,
  type: Type.String({ description: 'e.g. ve.started, operation.updated; events.lost: the events asked for are no longer kept' }),
  ve: Type.Optional(Type.String()),
  data: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
}, { title: 'Event' });
export type DoctorReport = Static<typeof DoctorReportSchema>;

const Rights = Type.Array(Type.Union([Type.Literal('migrate'), Type.Literal('manage')]), { maxItems: 8, description: 'What it may do here' });
const Address = Type.String({ maxLength: 300, pattern: '^[!-~]+$', description: 'HOST:PORT' });
const Uids = Type.Object({ base: Type.Integer(), count: Type.Integer() }, closed);

export const NodeView = Type.Object({
  name: Type.String(), address: nullable(Type.String()),
  state: Type.Union(['ok', 'unreachable', 'untrusted', 'incompatible', 'ended', 'silent', 'unknown'].map((word) => Type.Literal(word)),
    { description: '`silent`: it does not listen; `ended`: it has ended the pairing; `untrusted`: somebody else answers; `incompatible`: no common protocol; `unknown`: not asked' }),
  reason: nullable(Type.String()), allow: Type.Array(Type.String(), { description: 'What it may do here' }), allowed: Type.Array(Type.String(), { description: 'What this node may do there' }),
  version: nullable(Type.String()), kernel: nullable(Type.String()), architecture: nullable(Type.String()), cgroup: nullable(Type.Integer()), engine: nullable(Type.String()),
  uids: nullable(Uids), uidsOverlap: nullable(Type.Boolean({ description: 'Whether its uids and this node\'s have some in common' })), capabilities: Type.Array(Type.String()),
  protocol: nullable(Type.Integer()), rtt: nullable(Type.Number({ description: 'Milliseconds, the median of four' })),
  clock: nullable(Type.Number({ description: 'How far its clock is ahead, milliseconds' })), fingerprints: Type.Array(Type.String()), pairedAt: time,
}, { ...closed, title: 'Node' });

export const OwnNode = Type.Object({
  name: Type.String(), address: nullable(Type.String()), fingerprint: Type.String(), certificateEnds: time, authorityEnds: time,
  rotating: nullable(Type.Array(Type.String(), { description: 'Nodes that do not know the authority that is to follow' })),
}, { ...closed, title: 'OwnNode' });

export const TokenBody = Type.Object({ name: Type.Optional(newName), allow: Type.Optional(Rights), address: Type.Optional(Address) }, closed);
export const NodeToken = Type.Object({ token: Type.String(), address: Type.String(), expiresAt: time }, { ...closed, title: 'NodeToken' });
export const AddNodeBody = Type.Object({ name: newName, token: Type.String({ maxLength: 1000, pattern: '^[!-~]*$' }), address: Type.Optional(Address), allow: Type.Optional(Rights) }, closed);
export const SetNodeBody = Type.Object({ name: Type.Optional(newName), address: Type.Optional(Address), allow: Type.Optional(Rights) }, { ...closed, minProperties: 1 });
export const NodeRemoved = Type.Object({ told: Type.Boolean({ description: 'Whether the other side could be told' }), reason: nullable(Type.String()) }, { ...closed, title: 'NodeRemoved' });
export const RotateBody = Type.Object({
  authority: Type.Optional(Type.Boolean({ description: 'A new authority, too' })),
  force: Type.Optional(Type.Boolean({ description: 'Do not wait for nodes that cannot be reached: they have to be paired anew' })),
}, closed);
export const NodeRotation = Type.Object({
  fingerprint: Type.String(), certificateEnds: time, waiting: Type.Boolean({ description: 'Whether a new authority waits until all nodes know it' }),
  missing: Type.Array(Type.Object({ name: Type.String(), reason: Type.String() }, closed)),
}, { ...closed, title: 'NodeRotation' });
