/** What is kept of the counters of traffic: over daemons, stops, boots, foreign programs and migrations; and that nothing stays of a VE that is gone. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseSums, readSums } from './traffic-sums.ts';
import { OUTSIDE, testInNamespace } from './testing/agents.ts';
import type { Agent } from './testing/agents.ts';
import { WORLD4, makeLab } from './testing/lab.ts';
import type { Lab } from './testing/lab.ts';
import { all, growth, NONE, quiet, sent, texts, UDP4 } from './testing/traffic.ts';

const A4 = '10.187.0.2';
const B4 = '10.187.0.3';

testInNamespace('sums of traffic', import.meta.filename, inNamespace);
if (OUTSIDE) files();

function files(): void {
  test('sums that were torn, or come from another node, are read as far as they are sums', () => {
    const good = { 'inet rx inside': { bytes: 5, packets: 1 } };
    assert.deepEqual(parseSums(JSON.stringify(good)), good);
    for (const text of ['', '{', 'null', '7', '[]', '"x"']) assert.deepEqual(parseSums(text), {}, text);
    for (const value of [{ bytes: -1, packets: 0 }, { bytes: 1.5, packets: 0 }, { bytes: '5', packets: 0 }, { bytes: 1 }, null, 5, { bytes: 2 ** 60, packets: 0 }]) assert.deepEqual(readSums({ 'inet rx inside': value }), {});
    for (const key of ['inet rx Inside', 'ip rx inside', 'inet up inside', 'inet rx inside; drop', 'inet rx', '__proto__']) assert.deepEqual(readSums({ [key]: { bytes: 1, packets: 1 } }), {}, key);
    const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`inet rx c${i}`, { bytes: 1, packets: 1 }]));
    assert.ok(Object.keys(readSums(many)).length <= 256);
  });
}

function inNamespace(): void {
  let lab: Lab;
  let a: Agent;
  before(async () => {
    lab = await makeLab();
    a = await lab.add(101, [A4, 'fd5e:1d00:187::2']);
    await (await lab.add(102, [B4])).ask('hear', 7000);
    await lab.add(103, ['203.0.113.9']);
    await a.ask('echo', B4, 80, 100_000);
    await a.ask('echo', WORLD4, 80, 100_000);
  });
  after(() => lab.close());

  test('it goes on after another daemon, a stop, and all tables being removed by somebody', async () => {
    const before = await quiet(lab);
    await lab.network.accounting.follow({ error: assert.fail })(); // the daemon ends: sums are kept
    const fresh = lab.make();
    await fresh.setup();
    assert.deepEqual(await all(lab, fresh), before, 'another daemon');
    await fresh.revoke(lab.record(103));
    assert.deepEqual((await all(lab, fresh)).get(103), before.get(103), 'a VE that does not run');
    execFileSync('nft', ['flush', 'ruleset']);
    assert.deepEqual(await all(lab, fresh), before, 'while they are gone');
    const lost = await fresh.mend();
    assert.ok(lost.some((what) => what.includes('veld_t1_kept')), lost.join());
    assert.deepEqual(await all(lab, fresh), before, 'back');
    const grown = await growth(lab, () => a.ask('send', A4, B4, 7000, texts(5, 100)), fresh);
    assert.deepEqual(grown[101]!.inside, sent(5, 100 + UDP4));
    // A host that has booted: nothing is in the kernel, and no process knows anything.
    await fresh.accounting.follow({ error: assert.fail })();
    const known = await all(lab, fresh);
    execFileSync('nft', ['flush', 'ruleset']);
    const booted = lab.make();
    await booted.setup();
    assert.deepEqual(await all(lab, booted), known);
    execFileSync('nft', ['delete', 'table', 'inet', 'veld_t1_kept']);
    assert.ok((await booted.mend()).length === 1, 'that table alone is missed, too');
    assert.deepEqual(await all(lab, booted), known);
    await lab.network.setup();
  });

  test('a VE that comes from another node goes on with what it has carried; nonsense counts as nothing', async () => {
    await quiet(lab);
    const there = await lab.network.accounting.carried(lab.record(101));
    const number = 104;
    lab.network.accounting.bring({ ...lab.record(101), uuid: `uuid-${number}`, number }, JSON.parse(JSON.stringify(there)));
    await lab.add(number, ['10.187.0.40']);
    assert.deepEqual((await all(lab)).get(number), (await all(lab)).get(101));
    const grown = await growth(lab, () => lab.agents.get(number)!.ask('send', '10.187.0.40', B4, 7000, texts(5, 100)));
    assert.deepEqual(grown[number]!.inside, sent(5, 100 + UDP4));
    lab.network.accounting.bring({ ...lab.record(101), uuid: 'uuid-105', number: 105 }, { 'inet rx inside } drop': 5 });
    await lab.add(105, ['10.187.0.41']);
    assert.deepEqual((await all(lab)).get(105)!.outside, NONE);
  });

  test('a VE that is gone leaves nothing; neither does one that was removed without this daemon', async () => {
    const folder = join(lab.settings.stateDir, 'traffic');
    const names = (): string => lab.sh('nft', 'list', 'ruleset').split('\n').filter((line) => /_10[67](?:_|-|")/.test(line)).join('\n');
    for (const number of [106, 107]) {
      await lab.add(number, [`10.187.0.${number}`]);
      await lab.agents.get(number)!.ask('send', `10.187.0.${number}`, B4, 7000, texts(2, 100));
      const ve = lab.record(number);
      await lab.network.revoke(ve);
      lab.ves.splice(lab.ves.indexOf(ve), 1);
      if (number === 106) await lab.network.accounting.forget(ve);
    }
    assert.match(names(), /_107_/);
    assert.doesNotMatch(names(), /_106_/);
    await lab.network.accounting.follow({ error: assert.fail })();
    writeFileSync(join(folder, '.uuid-1'), 'half');
    await lab.network.accounting.prune();
    assert.equal(names(), '');
    assert.deepEqual(readdirSync(folder).filter((name) => !lab.ves.some(({ uuid }) => uuid === name)), []);
    assert.ok(existsSync(join(folder, 'uuid-101')) && readFileSync(join(folder, 'uuid-101'), 'utf8').includes('inet rx inside'));
    await lab.network.accounting.forget(lab.record(101));
    assert.ok(!existsSync(join(folder, 'uuid-101')));
    await lab.network.accounting.forget(lab.record(101)); // again
  });

  test('who looks while a VE goes brings nothing of it back', async () => {
    await lab.add(108, ['10.187.0.108']);
    await lab.agents.get(108)!.ask('send', '10.187.0.108', B4, 7000, texts(2, 100));
    const ve = lab.record(108);
    await lab.network.revoke(ve);
    await Promise.all([lab.network.accounting.forget(ve), lab.network.accounting.read()]);
    // Its record is there a little longer.
    await lab.network.accounting.follow({ error: assert.fail })();
    assert.ok(!existsSync(join(lab.settings.stateDir, 'traffic', ve.uuid)), 'with its record');
    lab.ves.splice(lab.ves.indexOf(ve), 1);
    await lab.network.accounting.follow({ error: assert.fail })();
    assert.ok(!existsSync(join(lab.settings.stateDir, 'traffic', ve.uuid)));
  });

  test('how long a look takes with 200 VEs', async (t) => {
    const many = Array.from({ length: 200 }, (_, i) => ({ ...lab.record(102), uuid: `many-${i}`, number: 1000 + i, name: `many${i}`, addresses: [`10.187.9.${i}`] }));
    lab.ves.push(...many);
    await lab.network.setup();
    const began = process.resourceUsage();
    const started = performance.now();
    for (let i = 0; i < 5; i++) await lab.network.accounting.read();
    const took = (performance.now() - started) / 5;
    t.diagnostic(`a look at 200 VEs: ${took.toFixed(1)} ms, of which the daemon works ${((process.resourceUsage().userCPUTime - began.userCPUTime) / 5000).toFixed(1)} ms`);
    assert.ok(took < 1500);
    for (const ve of many) lab.ves.splice(lab.ves.indexOf(ve), 1);
    await lab.network.accounting.prune();
  });
}
