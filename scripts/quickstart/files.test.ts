import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { installFiles, removeFiles } from './files.ts';
import type { MadeByQuickstart } from './record.ts';

const ROOT = join(import.meta.dirname, '../..');
const nothing = (): MadeByQuickstart => ({ links: [], files: [], folders: [], units: [], group: null });
function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'veld-share-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

test('files come, stay as they are at a second run, and go without a trace', async (t) => {
  const share = folder(t);
  const made = nothing();
  mkdirSync(join(share, 'man/man7'), { recursive: true });
  assert.deepEqual(await installFiles(ROOT, made, share), []);
  for (const path of ['bash-completion/completions/veld', 'zsh/site-functions/_veld', 'fish/vendor_completions.d/veld.fish', 'man/man1/veld.1', 'man/man1/veld-create.1', 'man/man8/veldd.8']) {
    assert.ok(made.files.includes(join(share, path)), path);
    assert.equal(statSync(join(share, path)).mode & 0o777, 0o644, path);
  }
  const page = join(share, 'man/man1/veld.1');
  const { ino } = statSync(page);
  const count = made.files.length;
  await installFiles(ROOT, made, share);
  assert.equal(statSync(page).ino, ino, 'not written anew');
  assert.equal(made.files.length, count);
  writeFileSync(page, readFileSync(page, 'utf8').replace('OPTIONS', 'OLD'));
  await installFiles(ROOT, made, share);
  assert.doesNotMatch(readFileSync(page, 'utf8'), /OLD/, 'an older page of ours is replaced');
  removeFiles(made);
  assert.deepEqual(readdirSync(share, { recursive: true }), ['man', 'man/man7'], 'what was there before stays, though it is empty');
});

test('what is somebody else\'s stays: a file, a link, and what was changed since', async (t) => {
  const share = folder(t);
  const made = nothing();
  mkdirSync(join(share, 'man/man1'), { recursive: true });
  mkdirSync(join(share, 'zsh/site-functions'), { recursive: true });
  writeFileSync(join(share, 'man/man1/veld.1'), '.TH VELD 1\n');
  writeFileSync(join(share, 'target'), 'theirs');
  symlinkSync(join(share, 'target'), join(share, 'zsh/site-functions/_veld'));
  assert.deepEqual(await installFiles(ROOT, made, share), [join(share, 'zsh/site-functions/_veld'), join(share, 'man/man1/veld.1')]);
  assert.equal(readFileSync(join(share, 'target'), 'utf8'), 'theirs');
  writeFileSync(join(share, 'man/man8/veldd.8'), 'my own page');
  removeFiles(made);
  assert.deepEqual(readdirSync(join(share, 'man'), { recursive: true }).map(String).toSorted(), ['man1', 'man1/veld.1', 'man8', 'man8/veldd.8']);
});

test('pages of commands that are no more go', async (t) => {
  const share = folder(t);
  const made = nothing();
  await installFiles(ROOT, made, share);
  const old = join(share, 'man/man1/veld-juggle.1');
  writeFileSync(old, readFileSync(join(share, 'man/man1/veld.1')));
  made.files.push(old);
  await installFiles(ROOT, made, share);
  assert.ok(!existsSync(old) && !made.files.includes(old));
});
