/** Two hosts, one of which loses its power in the middle of a migration. */
import { test } from 'node:test';
import { bootPair } from './pair-ground.ts';
import { powerTrials } from './pair-power-suite.ts';

const { one, two, joinWire, runVeld, become } = await bootPair();

test('both run Veld, and know each other', async () => {
  await joinWire();
  await runVeld();
  await become();
  await one.veld('rename demo walker');
  // The template goes along the first time: minutes, which no trial should have to wait for.
  await one.veld('migrate walker two');
  await two.veld('migrate walker one');
});

powerTrials([one, two], joinWire);
