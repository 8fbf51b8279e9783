/** Room for what VEs are promised: who is counted, what a grant is worth, and that no way to run leads past the question. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readProcess } from '../kernel/process.ts';
import { defaultSettings } from '../lib/settings.ts';
import type { Task } from '../ops/types.ts';
import type { OperationRecord, VeRecord } from '../store/types.ts';
import { sampleVe } from '../store/conformance.ts';
import type { VeContext } from './context.ts';
import { askRoom, checkRoom, keepRoom } from './room.ts';

const runDir = mkdtempSync(join(tmpdir(), 'veld-room-'));
after(() => rmSync(runDir, { recursive: true, force: true }));
const HALF = Math.floor(totalmem() / 2);

/** A node that may promise all that it has, and its VEs. */
function node(action: 'refuse' | 'warn' | 'allow', ves: VeRecord[]) {
  const events: string[] = [];
  const listeners: (() => void)[] = [];
  const busy = new Set<string>();
  const context = {
    settings: { ...defaultSettings(), runDir, overcommit: { memory: { ratio: 1, action } } }, store: { listVes: () => ves }, log: { warn() {} },
    events: { emit: (type: string, { data }: { data: { name: string } }) => void events.push(`${type} ${data.name}`) },
    operations: {
      isBusy: (uuid: string) => busy.has(uuid),
      watch: (_id: string, listener: (record: OperationRecord) => void) => void listeners.push(() => listener({ endedAt: 'now' } as OperationRecord)),
    },
  } as unknown as VeContext;
  const warnings: string[] = [];
  const task = { id: 'a', warn: (text: string) => void warnings.push(text) } as unknown as Task;
  return { context, task, warnings, events, busy, end: () => listeners.splice(0).forEach((tell) => tell()) };
}

function ve(number: number, bytes: number | null, changes: Partial<VeRecord> = {}): VeRecord {
  return { ...sampleVe(number), suspended: null, lastExit: null, desired: 'stopped', properties: bytes === null ? {} : { 'memory.limit': bytes }, ...changes };
}

/** Have it run: this process is its init. */
function run(number: number): void {
  mkdirSync(join(runDir, 'ves', String(number)), { recursive: true });
  writeFileSync(join(runDir, 'ves', String(number), 'init'), `${process.pid} ${readProcess(process.pid)!.startTime}\n`);
}

test('those that run are counted, and those that will without anybody\'s asking', () => {
  const now = new Date().toISOString();
  const policy = { 'memory.limit': HALF, 'restart.policy': 'always' };
  const failed: Partial<VeRecord> = { desired: 'running', lastExit: { code: 1, at: now, reason: 'its init ended' } };
  const counted = (other: VeRecord, busy = false): boolean => {
    const { context, busy: all } = node('refuse', [other]);
    if (busy) all.add(other.uuid);
    try {
      checkRoom(context, ve(1, totalmem() - HALF + 2));
      return false;
    } catch (error) {
      assert.equal((error as { code: string }).code, 'capacity.exceeded');
      return true;
    }
  };
  run(ve(2, null).number);
  assert.equal(counted(ve(2, HALF)), true, 'it runs');
  assert.equal(counted(ve(2, null)), false, 'it has no limit');
  assert.equal(counted(ve(3, HALF)), false, 'it does not run');
  assert.equal(counted(ve(3, HALF, { desired: 'running' })), false, 'it ran before the host booted, and it is not its turn yet');
  assert.equal(counted(ve(3, HALF, { desired: 'running' }), true), true, 'it is away for the moment of a snapshot');
  assert.equal(counted(ve(3, HALF, failed)), false, 'it has failed');
  assert.equal(counted(ve(3, HALF, { ...failed, properties: policy })), true, 'it has failed, and comes back by itself');
  assert.equal(counted(ve(3, HALF, { ...failed, properties: policy, lastExit: { code: 1, at: '2001-01-01T00:00:00.000Z', reason: '' } })), false, 'it failed before the host booted');
  assert.equal(counted(ve(3, HALF, { ...failed, properties: policy, notStarted: { at: now, reason: '' } })), false, 'there was no room for it');
  assert.equal(counted(ve(3, HALF, { desired: 'running', suspended: { at: now, engine: '' } })), false, 'it is suspended');
});

test('what was granted is kept until the operation ends, and is asked for once', () => {
  const [one, two] = [ve(11, HALF + 1), ve(12, HALF + 1)];
  const { context, task, end } = node('refuse', [one, two]);
  askRoom(context, one, task);
  askRoom(context, one, task);
  assert.throws(() => askRoom(context, two, task), { code: 'capacity.exceeded' });
  keepRoom(context, two, task);
  askRoom(context, two, task);
  end();
  askRoom(context, two, task);
  assert.throws(() => askRoom(context, one, task), { code: 'capacity.exceeded' });
});

test('no more is guaranteed than there is, whatever the settings allow', () => {
  const guarantee = (number: number, bytes: number): VeRecord => ({ ...ve(number, null), properties: { 'memory.guarantee': bytes } });
  const [one, two] = [guarantee(31, HALF), guarantee(32, HALF)];
  const { context, task } = node('allow', [one, two]);
  askRoom(context, one, task);
  assert.throws(() => checkRoom(context, two), { code: 'capacity.exceeded' });
  assert.throws(() => askRoom(context, two, task), { code: 'capacity.exceeded' });
  checkRoom(context, two, two.properties);
  checkRoom(context, guarantee(32, HALF / 2));
});

test('more than there is: warned of once, in the operation, the log and an event; or not at all', () => {
  const [one, two] = [ve(21, HALF + 1), ve(22, HALF + 1)];
  for (const action of ['warn', 'allow'] as const) {
    const { context, task, warnings, events } = node(action, [one, two]);
    askRoom(context, one, task);
    const said = checkRoom(context, two);
    askRoom(context, two, task);
    askRoom(context, two, task);
    const [name] = [two.name];
    assert.deepEqual(events, action === 'warn' ? [`capacity.exceeded ${name}`] : []);
    assert.deepEqual(warnings, action === 'warn' ? [said] : []);
    if (action === 'allow') assert.equal(said, undefined);
    else assert.match(said!, /overcommit\.memory\.ratio is 1\.$/);
  }
});

test('nothing begins the processes of a VE but what asks first', () => {
  const files = readdirSync(new URL('..', import.meta.url), { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'));
  const text = (file: string): string => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
  const begin = files.filter((file) => /'veld-boot'/.test(text(file))).sort();
  assert.deepEqual(begin, ['ve/boot.ts', 've/resume.ts']);
  for (const file of begin) assert.ok(text(file).indexOf('askRoom(context, ve, task)') > 0 && text(file).indexOf('askRoom(context, ve, task)') < text(file).indexOf("'veld-boot'"), file);
  // And what runs already, and is counted from a certain moment only.
  assert.match(text('ve/name-spare.ts'), /askRoom\(context, ve, task\)/);
});
