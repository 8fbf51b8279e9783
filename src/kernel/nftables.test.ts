import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { nftApply, nftChainExists, nftList } from './nftables.ts';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };
const TABLE = `veld-unit-${process.pid}`;

after(() => void spawnSync('nft', ['-f', '-'], { input: `add table inet ${TABLE}\ndelete table inet ${TABLE}\n` }));

/** What another process sees. */
const seen = (): string => spawnSync('nft', ['list', 'table', 'inet', TABLE], { encoding: 'utf8' }).stdout;

test('a transaction is done whole, or not at all', needsRoot, async () => {
  await nftApply(`add table inet ${TABLE}\nadd chain inet ${TABLE} one\nadd rule inet ${TABLE} one counter drop\n`);
  assert.match(seen(), /chain one \{\s*counter packets 0 bytes 0 drop/);
  await assert.rejects(nftApply(`add chain inet ${TABLE} two\nadd rule inet ${TABLE} three drop\n`), { code: 'network.failed', message: /No such file or directory/ });
  assert.doesNotMatch(seen(), /two/);
  await assert.rejects(nftApply('add words of nft {\n'), { code: 'network.failed', message: /syntax error/ });
  assert.match(seen(), /chain one/);
});

test('what others change meanwhile is seen', needsRoot, async () => {
  assert.equal(await nftChainExists('inet', TABLE, 'late'), false);
  spawnSync('nft', ['add', 'chain', 'inet', TABLE, 'late']);
  assert.equal(await nftChainExists('inet', TABLE, 'late'), true);
  const chains = async (): Promise<unknown[] | undefined> => (await nftList('list', 'table', 'inet', TABLE))?.flatMap(({ chain }) => chain?.name ?? []);
  assert.deepEqual(await chains(), ['one', 'late']);
  spawnSync('nft', ['delete', 'chain', 'inet', TABLE, 'late']);
  assert.deepEqual(await chains(), ['one']);
  assert.doesNotMatch(seen(), /accept/, 'who asks adds nothing');
});

test('many at once are done one after the other, and each gets its own answer', needsRoot, async () => {
  const all = await Promise.allSettled(Array.from({ length: 40 }, (_, i) => (i % 4 === 3 ? nftApply(`add rule inet ${TABLE} nowhere${i} drop\n`) : nftApply(`add chain inet ${TABLE} c${i}\n`))));
  assert.deepEqual(all.map(({ status }) => status), Array.from({ length: 40 }, (_, i) => (i % 4 === 3 ? 'rejected' : 'fulfilled')));
  for (const [i, one] of all.entries()) if (one.status === 'rejected') assert.match((one.reason as Error & { details: { stderr: string } }).details.stderr, new RegExp(`nowhere${i}\\b`));
  assert.equal(seen().match(/chain c\d+/g)?.length, 30);
});

test('what is not there is no error, and what is long comes whole', needsRoot, async () => {
  assert.equal(await nftList('list', 'table', 'inet', `${TABLE}-none`), undefined);
  const elements = Array.from({ length: 20_000 }, (_, i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
  await nftApply(`add set inet ${TABLE} long { type ipv4_addr; }\nadd element inet ${TABLE} long { ${elements.join(', ')} }\n`);
  const [{ set }] = (await nftList('list', 'set', 'inet', TABLE, 'long'))!.filter((one) => one.set !== undefined) as [{ set: { elem: string[] } }];
  assert.deepEqual(new Set(set.elem), new Set(elements));
});
