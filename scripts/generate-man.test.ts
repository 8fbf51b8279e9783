import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { loadAllCommands } from '../src/cli/table.ts';
import { PROPERTIES } from '../src/spec/properties.ts';
import { generateMan } from './generate-man.ts';
import { manPage } from './roff.ts';

const pages = await generateMan();
const missing = (program: string): string | undefined => (spawnSync('/bin/sh', ['-c', `command -v ${program}`]).status === 0 ? undefined : `${program} is not installed`);
/** A page as a terminal of 80 columns shows it, without bold. */
function render(page: string): { text: string; complaints: string } {
  const { stdout, stderr } = spawnSync('groff', ['-mandoc', '-ww', '-Tutf8', '-P-cbou', '-rLL=78n'], { input: page, encoding: 'utf8' });
  return { text: stdout, complaints: stderr };
}

test('there is a page for every command, and for properties and daemon', async () => {
  const commands = (await loadAllCommands()).map(({ name }) => `man1/veld-${name.replaceAll(' ', '-')}.1`);
  assert.deepEqual(Object.keys(pages), ['man1/veld.1', ...commands, 'man7/veld-properties.7', 'man8/veldd.8']);
});

test('groff has no complaint about any page', { skip: missing('groff') }, () => {
  for (const [name, page] of Object.entries(pages)) {
    const { text, complaints } = render(page);
    assert.equal(complaints, '', name);
    for (const title of ['NAME', 'SEE ALSO']) assert.match(text, new RegExp(`^${title}$`, 'm'), name);
  }
  assert.match(render('.TH X 1\n.XYZ\n').complaints, /XYZ/, 'it would say so');
});

test('mandoc has no complaint about any page', { skip: missing('mandoc') }, () => {
  for (const [name, page] of Object.entries(pages)) {
    const { stdout } = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning'], { input: page, encoding: 'utf8' });
    assert.equal(stdout.split('\n').filter((line) => line !== '' && !line.includes('missing date')).join('\n'), '', name);
  }
});

test('what is shown is what the tables say', { skip: missing('groff') }, () => {
  const create = render(pages['man1/veld-create.1']!).text;
  assert.match(create, /^ +veld create \[options\] <name>/m);
  assert.match(create.replaceAll(/\s+/g, ' '), / -t, --template <template> Name or fingerprint of the template \(veld template list\), or an image to make one of \(veld template search\) \(required\)\. /);
  const properties = render(pages['man7/veld-properties.7']!).text;
  for (const { name } of PROPERTIES) assert.match(properties, new RegExp(`^ +${name.replaceAll('.', '\\.')}(\\n| +)`, 'm'), name);
});

test('text that is roff elsewhere is only text', { skip: missing('groff') }, () => {
  const line = '.so /etc/passwd \\*[x] \'quoted\' ~/^ "a" -b é';
  const { text, complaints } = render(manPage({ name: 'x', section: 1, version: '1', source: 'a test' }, 'y').section('TEXT').paragraph(line).verbatim(["'br"]).text());
  assert.equal(complaints, '');
  assert.ok(text.includes(line), text);
  assert.match(text, /^ +'br$/m);
});
