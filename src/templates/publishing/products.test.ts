/** Names of what is published. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { imageOf } from '../sources/precreated.ts';
import { checkAliases, findProduct, nameProduct, nextSerial, openvzName, usualAliases } from './products.ts';
import type { PublishedProduct } from './types.ts';

const template = (name: string, more: Record<string, unknown> = {}) => ({ name, os: 'debian', release: '12', architecture: 'amd64', source: {}, ...more });
const refused = (code: string, why: RegExp, work: () => unknown): void => assert.throws(work, (error: Error & { code?: string }) => error.code === code && why.test(error.message));

test('a template is published under a name that follows from its own, or that is given', () => {
  const of = (name: string, as?: string, more = {}) => {
    const { product, release, codename, variant } = nameProduct(template(name, more), as);
    return [product, release, codename, variant];
  };
  assert.deepEqual(of('debian-12'), ['debian:bookworm:amd64:default', '12', 'bookworm', 'default']);
  assert.deepEqual(of('debian-12-web'), ['debian:bookworm:amd64:web', '12', 'bookworm', 'web']);
  assert.deepEqual(of('shop'), ['debian:bookworm:amd64:shop', '12', 'bookworm', 'shop']);
  assert.deepEqual(of('mine', undefined, { os: 'ubuntu', release: '24.04', source: { kind: 'image', variant: 'cloud' } }), ['ubuntu:noble:amd64:cloud', '24.04', 'noble', 'cloud']);
  assert.deepEqual(of('shop', 'ubuntu:noble'), ['ubuntu:noble:amd64:default', '24.04', 'noble', 'default']);
  assert.deepEqual(of('shop', 'Alpine/3.22/Tiny'), ['alpine:3.22:amd64:tiny', '3.22', null, 'tiny']);
  assert.deepEqual(of('app', 'app:1/x', { os: 'unknown', release: 'unknown' }), ['app:1:amd64:x', '1', null, 'x']);
  refused('published.name_invalid', /does not say which distribution/, () => of('app', undefined, { os: 'unknown' }));
  refused('published.name_invalid', /for which machine/, () => of('app', undefined, { architecture: 'unknown' }));
  for (const as of ['debian', 'debian:12/../x', 'debian:..', '..:12', 'debian:12/a/b', 'debian:1 2', 'debian:12;x', 'debian:12/a\nb', '', ':', 'debian:-x']) refused('published.name_invalid', /is not of the form|cannot be the name/, () => of('x', as));
});

test('aliases: those that everybody expects, and no two products with the same', () => {
  const usual = nameProduct(template('debian-12'));
  assert.deepEqual(usualAliases(usual), ['debian/12', 'debian/12/default', 'debian/bookworm', 'debian/bookworm/default']);
  assert.deepEqual(usualAliases(nameProduct(template('shop'))), ['debian/12/shop', 'debian/bookworm/shop']);
  const other = { ...nameProduct(template('shop')), aliases: ['web'], versions: [] } as unknown as PublishedProduct;
  assert.deepEqual(checkAliases(['a/b', 'a/b'], usual, [other]), ['a/b']);
  refused('published.name_taken', /amd64:shop has the alias web/, () => checkAliases(['web'], usual, [other]));
  checkAliases(['web'], nameProduct(template('shop')), [other]);
  checkAliases(['web'], { ...usual, architecture: 'arm64' }, [other]);
  for (const alias of ['ubuntu:24.04', 'A', '', '/a', 'a/', 'a//b', 'a b', 'a,b', '-a', '../a']) refused('published.name_invalid', /cannot be an alias/, () => checkAliases([alias], usual, []));
});

test('a version is always later than the one before, whatever the clock says', () => {
  const now = Date.parse('2026-01-02T03:04:05.678Z');
  assert.equal(nextSerial(now, undefined), '20260102_030405');
  assert.equal(nextSerial(now, '20260102_030404'), '20260102_030405');
  assert.equal(nextSerial(now, '20260102_030405'), '20260102_030406');
  assert.equal(nextSerial(now, '20261231_235959'), '20270101_000000');
});

test('what OpenVZ calls it is what our own client reads', () => {
  const name = openvzName(nameProduct(template('shop')));
  assert.equal(name, 'debian-12-x86_64-shop');
  const image = imageOf('here', name)!;
  assert.deepEqual([image.os, image.release, image.architecture, image.variant], ['debian', '12', 'amd64', 'shop']);
  assert.equal(openvzName(nameProduct(template('debian-12'))), 'debian-12-x86_64');
  refused('published.name_invalid', /OpenVZ has no name/, () => openvzName(nameProduct(template('x'), 'my_os:1/x')));
});

test('a product is found by each of its names', () => {
  const product = (name: string, aliases: string[] = []) => ({ ...nameProduct(template(name)), aliases, endOfLife: null, versions: [{ template: { name } }] }) as unknown as PublishedProduct;
  const all = [product('debian-12'), product('shop', ['web/stable'])];
  for (const name of ['debian:bookworm:amd64:shop', 'debian:12/shop', 'Debian:Bookworm/shop', 'web/stable', 'shop']) assert.equal(findProduct(all, name).variant, 'shop', name);
  assert.equal(findProduct(all, 'debian:12').variant, 'default');
  refused('published.not_found', /Nothing is published/, () => findProduct(all, 'ubuntu:24.04'));
  refused('image.ambiguous', /is several/, () => findProduct([...all, { ...all[0]!, product: 'debian:bookworm:arm64:default' }], 'debian:12'));
});
