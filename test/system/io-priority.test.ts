/** Priorities of VEs on a disk that is short, where its scheduler knows them: a disk of its own has bfq. */
import { test } from 'node:test';
import { mountWithBfq, whyNoBfq } from '../lib/disk-image.ts';
import { fileInstance } from '../lib/instance.ts';
import { DISK_FILLS } from '../lib/limits/disk-fills.ts';
import { limitFills } from '../lib/limits/fills.ts';
import { groundHere } from '../lib/limits/here.ts';

const missing = whyNoBfq();
if (missing === undefined) {
  const veld = await fileInstance({ mountState: (stateDir) => mountWithBfq(`${stateDir}.img`, stateDir) });
  await Promise.all(['web', 'neighbour'].map((ve) => veld.createRunning(ve)));
  await Promise.all(['web', 'neighbour'].map((ve) => veld.booted(ve)));
  limitFills(groundHere(veld, 'web', 'neighbour'), DISK_FILLS);
} else test('a disk with bfq', { skip: missing }, () => {});
