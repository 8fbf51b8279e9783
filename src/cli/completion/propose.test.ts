import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROPERTIES, formatProperty, parseProperty } from '../../spec/properties.ts';
import { GLOBAL_OPTIONS } from '../command.ts';
import { loadAllCommands } from '../table.ts';
import { operationRecord, ve } from '../test-daemon.ts';
import { propose } from './propose.ts';
import type { Names } from './propose.ts';

const commands = await loadAllCommands();
const names: Names = {
  ves: async () => [ve({ name: 'web' }), ve({ name: 'db', status: 'stopped' }), ve({ name: 'ice', status: 'frozen' }), ve({ name: 'lost', status: 'failed' })],
  presets: async () => [{ name: 'small', description: 'A small one' }],
  recipes: async () => [{ name: 'lamp', description: 'Apache and MariaDB' }],
  pools: async () => [{ name: 'fast', path: '/srv/fast' }],
  repositories: async () => [{ name: 'nas', location: 'sftp://nas/srv' }],
  templates: async () => [{ name: 'debian-12', os: 'debian', release: '12' }, { name: 'x; rm -rf /', os: 'evil', release: '$(id)' }] as never,
  operations: async () => [operationRecord({ id: 'op1', state: 'running' }), operationRecord({ id: 'op2' })],
  nodes: async () => [{ name: 'node2', address: '192.0.2.2:7430' }, { name: 'node3', address: null }],
};
const none: Names = { ves: async () => [], templates: async () => [], operations: async () => [], nodes: async () => [], presets: async () => [], recipes: async () => [], pools: async () => [], repositories: async () => [] };

async function values(line: string, from = names): Promise<string[]> {
  return (await propose(line.split(' '), commands, from)).proposals.map(({ value }) => value);
}

test('the first word: every command, options; the second of those that have two', async () => {
  assert.deepEqual(new Set(await values('')), new Set(commands.map(({ name }) => name.split(' ')[0])));
  assert.deepEqual(await values('sta'), ['start', 'stats']);
  assert.deepEqual(await values('template '), ['build', 'recipes', 'log', 'import', 'commit', 'edit', 'history', 'diff', 'rollback', 'search', 'pull', 'update', 'sources', 'export', 'publish', 'unpublish', 'published', 'server', 'list', 'show', 'warm', 'delete']);
  assert.deepEqual(await values('--v'), ['--version']);
  assert.deepEqual(await values('--json --socket /x sta'), ['start', 'stats']);
  assert.deepEqual(await values('nonsense '), []);
});

test('every option of every command is proposed, and every choice', async () => {
  for (const command of commands) {
    const proposed = await values(`${command.name} -`);
    for (const { flags, choices } of [...command.options ?? [], ...GLOBAL_OPTIONS]) {
      const flag = flags.split(/[ ,]+/).filter((word) => word.startsWith('-')).at(-1)!;
      assert.ok(proposed.includes(flag), `${command.name} ${flag}`);
      for (const choice of choices ?? []) {
        assert.ok((await values(`${command.name} ${flag} `)).includes(choice), `${command.name} ${flag} ${choice}`);
        assert.ok((await values(`${command.name} ${flag}=`)).includes(`${flag}=${choice}`), `${command.name} ${flag}=${choice}`);
      }
    }
  }
  assert.deepEqual(await values('stop --force --fo'), [], 'once is enough');
  assert.deepEqual(await values('set web --unset memory.limit --uns'), ['--unset'], 'this one may be repeated');
});

test('names of VEs by what the verb can do with them, none twice', async () => {
  assert.deepEqual(await values('start '), ['db', 'lost']);
  assert.deepEqual(await values('stop '), ['web', 'ice']);
  assert.deepEqual(await values('thaw '), ['ice']);
  assert.deepEqual(await values('destroy web db '), ['ice', 'lost']);
  assert.deepEqual(await values('show w'), ['web']);
  assert.deepEqual(await values('show web '), [], 'there is no second argument');
  assert.deepEqual(await values('events --ve d'), ['db']);
  assert.deepEqual(await values('operation cancel '), ['op1']);
  assert.deepEqual(await values('operation show '), ['op1', 'op2']);
  assert.deepEqual(await values('start ', none), []);
});

test('names of nodes, for commands about them and for --node anywhere', async () => {
  assert.deepEqual(await values('node show '), ['node2', 'node3']);
  for (const line of ['--node ', 'list --node ', 'show web --node ']) assert.deepEqual(await values(line), ['node2', 'node3'], line);
  assert.deepEqual(await values('--node node2 show w'), ['web']);
});

test('a name that a shell could take for more than a word is never proposed', async () => {
  assert.deepEqual(await values('create x -t '), ['debian-12']);
});

test('properties, and the values of each that its row can list; each of them is accepted', async () => {
  assert.deepEqual(await values('set web cpu.'), ['cpu.weight=', 'cpu.limit=', 'cpu.burst=', 'cpu.count=', 'cpu.mask=', 'cpu.nodes=', 'cpu.baseline=']);
  assert.deepEqual(await values('set web cpu.limit=50% cpu.'), ['cpu.weight=', 'cpu.burst=', 'cpu.count=', 'cpu.mask=', 'cpu.nodes=', 'cpu.baseline='], 'not one that is set already');
  assert.equal((await propose(['set', 'web', 'cpu'], commands, names)).open, true);
  assert.deepEqual(await values('create x --set restart.policy=o'), ['restart.policy=on-failure']);
  assert.deepEqual(await values('set web -u boot.'), ['boot.command', 'boot.user', 'boot.env', 'boot.cwd', 'boot.start', 'boot.order', 'boot.timeout']);
  for (const { name } of PROPERTIES) {
    for (const word of await values(`set web ${name}=`)) {
      const value = word.slice(name.length + 1);
      assert.equal(formatProperty(name, parseProperty(name, value)), value, word);
    }
  }
  assert.deepEqual(await values('set web features.nesting='), ['features.nesting=on', 'features.nesting=off']);
});

test('the command line of a VE is none of our business; files of the host are, where they are asked for', async () => {
  for (const line of ['exec web ', 'exec web -- ', 'exec web ls --', 'exec web -']) assert.deepEqual((await propose(line.split(' '), commands, names)).files, false, line);
  assert.deepEqual(await values('exec web ls '), []);
  assert.deepEqual(await values('exec -- web '), []);
  assert.equal((await propose(['template', 'import', ''], commands, names)).files, true);
  assert.equal((await propose(['list', '--socket', '/r'], commands, names)).files, true);
});

test('help: commands, their second words, and properties', async () => {
  assert.deepEqual(await values('help prop'), ['properties']);
  assert.deepEqual(await values('help engine '), ['show', 'build']);
  assert.deepEqual(await values('help properties cpu'), ['cpu.weight', 'cpu.limit', 'cpu.burst', 'cpu.count', 'cpu.mask', 'cpu.nodes', 'cpu.baseline']);
});

test('recipes, and files where one is being named', async () => {
  assert.deepEqual(await values('template build '), ['lamp']);
  assert.equal((await propose(['template', 'build', './s'], commands, names)).files, true);
});

test('presets, behind the option and as an argument', async () => {
  for (const words of [['create', 'web', '--preset', ''], ['set', 'web', '--preset', 'sm'], ['preset', 'show', '']]) {
    assert.deepEqual((await propose(words, commands, names)).proposals, [{ value: 'small', help: 'A small one' }]);
  }
});
