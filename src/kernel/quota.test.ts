import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { giveTo, projectOf } from './project.ts';
import { openQuotas } from './quota.ts';

test('a file system without quotas says so, and is none the worse', (t) => {
  const quotas = openQuotas('/proc');
  t.after(() => quotas.close());
  for (const kind of ['user', 'group', 'project'] as const) {
    assert.throws(() => quotas.state(kind), { code: 'ENOSYS' });
    assert.throws(() => quotas.get(kind, 1), (error: NodeJS.ErrnoException) => ['ENOSYS', 'ESRCH'].includes(error.code ?? ''));
  }
  assert.throws(() => openQuotas('/nonexistent'), { code: 'ENOENT' });
});

test('a folder where there are no projects has none, and cannot be given one', (t) => {
  const folder = mkdtempSync('/dev/shm/veld-project-');
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  assert.equal(projectOf(folder), 0);
  giveTo(folder, 0);
  giveTo(folder, 77); // tmpfs: nothing happens
  assert.equal(projectOf(folder), 0);
  assert.throws(() => projectOf(join(folder, 'none')), { code: 'ENOENT' });
});
