/** Recipes that ship, built for real: packages of the host's mirror, and their own tests in a VE that has booted. VELD_TEST_RECIPES names others than the usual ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TemplateView } from '../../src/ve/types.ts';
import { fileInstance } from '../lib/instance.ts';
import { wordsWith } from '../lib/words.ts';

const veld = await fileInstance({ settings: (own) => { own.recipesDir = '/nowhere'; } });
const { ok, said } = wordsWith(veld);

for (const name of (process.env.VELD_TEST_RECIPES ?? 'postgresql lamp').split(' ')) {
  test(`${name}: built, tried, and a VE of it is up`, async (t) => {
    const built = await veld.cli('template', 'build', name);
    assert.equal(built.code, 0, `${built.stderr}\n${(await veld.cli('template', 'log', name)).stdout.slice(-3000)}`);
    t.diagnostic(built.stderr.trim());
    const { size, source } = await veld.json<TemplateView>('template', 'show', name);
    t.diagnostic(`${name}: ${Math.round(size / 2 ** 20)} MiB, ${Object.keys(source.packages as object).length} packages`);
    await ok('create', 'web', '--template', name, '--start');
    assert.equal(await veld.booted('web'), 'running', await said('web', 'systemctl --failed --no-legend'));
    assert.equal(await said('web', 'find / -xdev \\( -name "*.veld-*" -o -name policy-rc.d \\) -print'), '');
    await ok('destroy', '--force', 'web');
    await ok('template', 'delete', name);
  });
}
