/** What every implementation of Store must do. A test file calls {@link storeConformance} for each. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { LayerRecord, OperationRecord, Store, TemplateRecord, VeRecord } from './types.ts';

const NOW = '2026-01-02T03:04:05.678Z';

/** A layer for tests. */
export function sampleLayer(id: string): LayerRecord {
  return { id, uidBase: 0, createdAt: NOW, size: 123 };
}

/** A VE for tests; number, name, uuid and uid range follow from `n`. */
export function sampleVe(n: number, changes: Partial<VeRecord> = {}): VeRecord {
  return {
    uuid: `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`, number: 100 + n, name: `ve${n}`, template: 'a'.repeat(64), layers: [],
    uidBase: n * 65_536, properties: { 'cpu.limit': null, 'network.dns': ['10.0.0.1'] }, addresses: ['10.0.0.9', 'fd00::9'],
    mac: '02:00:00:00:00:01', desired: 'stopped', ready: true, guestDirty: false, createdAt: NOW, lastExit: null, suspended: null, deployed: null, notStarted: null, ...changes,
  };
}

/** A template for tests. */
export function sampleTemplate(name: string, fingerprint: string, changes: Partial<TemplateRecord> = {}): TemplateRecord {
  return {
    fingerprint: fingerprint.padEnd(64, '0'), name, os: 'debian', release: 'bookworm', architecture: 'amd64', layers: [], size: 5_000_000_000,
    createdAt: NOW, source: { suite: 'bookworm', include: ['vim'] }, ...changes,
  };
}

/** An operation for tests. */
export function sampleOperation(id: string, changes: Partial<OperationRecord> = {}): OperationRecord {
  return {
    id, kind: 'create', ve: null, state: 'running', percent: 0, message: '', result: null, error: null, createdAt: NOW, endedAt: null,
    requestId: null, ...changes,
  };
}

const code = (wanted: string) => (error: unknown): boolean => {
  assert.equal((error as { code?: string }).code, wanted);
  return true;
};

/**
 * Declare the tests.
 * @param name of the implementation
 * @param open a fresh, empty store
 */
export function storeConformance(name: string, open: () => Store): void {
  void describe(`store: ${name}`, () => {
    const test = (title: string, work: (store: Store) => void): void => {
      void it(title, () => {
        const store = open();
        try {
          work(store);
        } finally {
          store.close();
        }
      });
    };

    test('keeps pools, each name once', (store) => {
      const pool = { name: 'fast', path: '/srv/fast', driver: 'overlay', image: { file: '/srv/fast.img', bytes: 1 << 30, fileSystem: 'ext4' }, createdAt: NOW } as const;
      const plain = { ...pool, name: 'big', path: '/srv/big', driver: 'btrfs', image: null } as const;
      store.insertPool(pool);
      store.insertPool(plain);
      assert.throws(() => store.insertPool({ ...plain, name: 'fast' }), code('pool.name_taken'));
      assert.deepEqual(store.listPools(), [plain, pool]);
      store.deletePool('fast');
      store.deletePool('fast');
      assert.deepEqual(store.listPools(), [plain]);
    });

    test('keeps repositories, each name once', (store) => {
      const one = { name: 'nas', location: 'sftp://backup@nas/srv', identity: '/root/key', createdAt: NOW };
      const two = { name: 'disk', location: '/srv/backups', identity: null, createdAt: NOW };
      for (const record of [one, two]) store.insertRepository(record);
      assert.throws(() => store.insertRepository({ ...two, name: 'nas' }), code('repository.name_taken'));
      assert.deepEqual(store.listRepositories(), [two, one]);
      store.deleteRepository('nas');
      store.deleteRepository('nas');
      assert.deepEqual(store.listRepositories(), [two]);
    });

    test('keeps VEs as they are', (store) => {
      for (const id of ['low', 'high']) store.insertLayer(sampleLayer(id));
      const ve = sampleVe(1, { notStarted: { at: NOW, reason: 'no room' }, layers: [{ id: 'low', uidBase: 0 }, { id: 'high', uidBase: 65_536 }], lastExit: { code: 130, at: NOW, reason: 'poweroff' }, suspended: { at: NOW, engine: 'e'.repeat(64) } });
      store.insertVe(ve);
      store.insertVe(sampleVe(2, { number: 50 }));
      for (const found of [store.veByUuid(ve.uuid), store.veByName('ve1'), store.veByNumber(101)]) assert.deepEqual(found, ve);
      assert.deepEqual(store.listVes().map((v) => v.number), [50, 101]);
      const changed = sampleVe(1, { name: 'other', layers: [{ id: 'high', uidBase: 1 }], desired: 'running', ready: false, guestDirty: true, addresses: [] });
      store.updateVe(changed);
      assert.deepEqual(store.veByUuid(ve.uuid), changed);
      assert.equal(store.veByName('ve1'), undefined);
      store.deleteVe(ve.uuid);
      store.deleteVe(ve.uuid);
      assert.equal(store.veByUuid(ve.uuid), undefined);
      assert.equal(store.layerUses('high'), 0);
    });

    test('keeps names, numbers and uid ranges unique among VEs', (store) => {
      store.insertVe(sampleVe(1));
      store.insertVe(sampleVe(2, { ready: false }));
      assert.throws(() => store.insertVe(sampleVe(3, { name: 've2' })), code('ve.name_taken'));
      assert.throws(() => store.updateVe(sampleVe(1, { name: 've2' })), code('ve.name_taken'));
      assert.throws(() => store.insertVe(sampleVe(3, { number: 101 })));
      assert.throws(() => store.insertVe(sampleVe(3, { uidBase: 65_536 })));
      assert.throws(() => store.insertVe(sampleVe(1, { name: 'x', number: 1, uidBase: 1 })));
      assert.equal(store.listVes().length, 2);
    });

    test('updates only a VE that exists, and never its number', (store) => {
      assert.throws(() => store.updateVe(sampleVe(1)), code('ve.not_found'));
      store.insertVe(sampleVe(1));
      assert.throws(() => store.updateVe(sampleVe(1, { number: 7 })), code('ve.not_found'));
      assert.equal(store.veByNumber(101)?.name, 've1');
    });

    test('finds templates by name, fingerprint and unique prefix', (store) => {
      store.insertLayer(sampleLayer('l'));
      const one = sampleTemplate('debian-12', 'abcdef0123', { layers: [{ id: 'l', uidBase: 0 }] });
      store.insertTemplate(one);
      store.insertTemplate(sampleTemplate('debian-13', 'abcdef01ff'));
      assert.deepEqual(store.findTemplate('debian-12'), one);
      assert.deepEqual(store.findTemplate(one.fingerprint), one);
      assert.deepEqual(store.findTemplate('abcdef012'), one);
      assert.equal(store.findTemplate('abcdef01'), undefined, 'two begin so');
      assert.equal(store.findTemplate('abcdef0'), undefined, 'too short');
      for (const odd of ['', '%', 'abcdef01%', 'debian', "' OR 1=1 --"]) assert.equal(store.findTemplate(odd), undefined);
      assert.throws(() => store.insertTemplate(sampleTemplate('debian-12', 'ff')), code('template.name_taken'));
      assert.throws(() => store.insertTemplate(sampleTemplate('x', 'abcdef0123')), code('template.name_taken'));
      assert.deepEqual(store.listTemplates().map((t) => t.name), ['debian-12', 'debian-13']);
      store.updateTemplate(one.fingerprint, { name: 'older' });
      assert.equal(store.findTemplate('older')?.fingerprint, one.fingerprint);
      store.updateTemplate(one.fingerprint, { source: { kind: 'other' } });
      assert.deepEqual(store.findTemplate('older'), { ...store.findTemplate(one.fingerprint)!, name: 'older', source: { kind: 'other' } });
      store.deleteTemplate(one.fingerprint);
      assert.equal(store.findTemplate('debian-12'), undefined);
      assert.equal(store.layerUses('l'), 0);
    });

    test('counts the uses of a layer, and keeps one that is used', (store) => {
      store.insertLayer(sampleLayer('l'));
      assert.deepEqual(store.layer('l'), sampleLayer('l'));
      store.insertVe(sampleVe(1, { layers: [{ id: 'l', uidBase: 0 }] }));
      store.insertTemplate(sampleTemplate('t', 'aa', { layers: [{ id: 'l', uidBase: 0 }] }));
      assert.equal(store.layerUses('l'), 2);
      assert.throws(() => store.deleteLayer('l'), code('layer.in_use'));
      store.deleteVe(sampleVe(1).uuid);
      store.deleteTemplate('aa'.padEnd(64, '0'));
      store.deleteLayer('l');
      assert.deepEqual([store.layer('l'), store.listLayers(), store.layerUses('l')], [undefined, [], 0]);
      assert.throws(() => store.insertVe(sampleVe(2, { layers: [{ id: 'gone', uidBase: 0 }] })));
      assert.equal(store.veByName('ve2'), undefined);
    });

    test('keeps snapshots, by VE, and the layers that they stand on', (store) => {
      store.insertLayer(sampleLayer('l'));
      store.insertVe(sampleVe(1));
      store.insertVe(sampleVe(2));
      const one = { id: 's1', ve: sampleVe(1).uuid, name: 'before', description: 'before all', parent: null, createdAt: NOW, layers: [{ id: 'l', uidBase: 65_536 }], properties: { 'cpu.limit': null }, engine: 'e'.repeat(64) };
      const other = { ...one, id: 's2', ve: sampleVe(2).uuid, engine: null };
      store.insertSnapshot(one);
      store.insertSnapshot(other);
      assert.throws(() => store.insertSnapshot({ ...one, id: 's3' }), code('snapshot.name_taken'));
      assert.deepEqual(store.listSnapshots(), [one, other]);
      assert.deepEqual(store.listSnapshots(one.ve), [one]);
      assert.equal(store.layerUses('l'), 2);
      assert.throws(() => store.deleteLayer('l'), code('layer.in_use'));
      store.deleteSnapshot('s2');
      const child = { ...one, id: 's4', name: 'after', parent: 's1' };
      store.insertSnapshot(child);
      store.insertSnapshot({ ...child, id: 's5', name: 'later', parent: 's4' });
      store.deleteSnapshot('s4');
      assert.deepEqual(store.listSnapshots(one.ve).map(({ id, parent }) => [id, parent]), [['s1', null], ['s5', 's1']], 'those after it come after its parent');
      store.deleteVe(one.ve);
      assert.deepEqual(store.listSnapshots(), []);
      assert.equal(store.layerUses('l'), 0);
    });

    test('keeps one warm image of a template, and the layer that it stands on', (store) => {
      for (const id of ['l', 'w', 'x']) store.insertLayer(sampleLayer(id));
      const template = sampleTemplate('debian-12', 'aa', { layers: [{ id: 'l', uidBase: 0 }] });
      store.insertTemplate(template);
      const image = { template: template.fingerprint, id: 'i1', layer: { id: 'w', uidBase: 65_536 }, host: 'h', engine: 'e', createdAt: NOW };
      store.setWarmImage(image);
      assert.deepEqual(store.listWarmImages(), [image]);
      assert.throws(() => store.deleteLayer('w'), code('layer.in_use'));
      const newer = { ...image, id: 'i2', layer: { id: 'x', uidBase: 65_536 } };
      store.setWarmImage(newer);
      assert.deepEqual(store.listWarmImages(), [newer]);
      assert.deepEqual([store.layerUses('w'), store.layerUses('x')], [0, 1]);
      store.deleteTemplate(template.fingerprint);
      assert.deepEqual([store.listWarmImages(), store.layerUses('x')], [[], 0]);
      assert.throws(() => store.setWarmImage(image), 'its template is gone');
    });

    test('keeps nodes by name, each name once, and what changes of them', (store) => {
      const node = {
        id: 'n1', name: 'node2', address: '192.0.2.2:7430', allow: ['migrate'], authorities: [{ fingerprint: 'f'.repeat(64), certificate: 'PEM' }], facts: null, ended: null, createdAt: NOW,
      };
      store.saveNode(node);
      store.saveNode({ ...node, id: 'n2', name: 'a', address: null });
      assert.deepEqual(store.listNodes().map(({ name }) => name), ['a', 'node2']);
      assert.throws(() => store.saveNode({ ...node, id: 'n3' }), code('node.name_taken'));
      assert.throws(() => store.saveNode({ ...node, name: 'a' }), code('node.name_taken'));
      const changed = { ...node, name: 'other', allow: [], facts: { version: '1' }, ended: { at: NOW, reason: 'r' } };
      store.saveNode(changed);
      store.deleteNode('n2');
      store.deleteNode('n2');
      assert.deepEqual(store.listNodes(), [changed]);
    });

    test('gives a token out once, and forgets those past their time', (store) => {
      const token = { id: 't1', key: 'k', name: null, allow: ['manage'], createdAt: NOW, expiresAt: '2026-01-02T03:14:05.678Z' };
      store.insertNodeToken(token);
      store.insertNodeToken({ ...token, id: 't2', name: 'x', expiresAt: NOW });
      assert.equal(store.pruneNodeTokens('2026-01-02T03:05:00.000Z'), 1);
      assert.equal(store.takeNodeToken('t2'), undefined);
      assert.deepEqual(store.takeNodeToken('t1'), token);
      assert.equal(store.takeNodeToken('t1'), undefined);
    });

    test('keeps words on whose a VE is, also of VEs that are gone', (store) => {
      const source = { id: 'a'.repeat(32), role: 'source', ve: sampleVe(1).uuid, node: 'two', epoch: 1, kind: 'running', at: NOW } as const;
      const target = { ...source, role: 'target' } as const;
      store.setHandover(source);
      store.setHandover(target);
      store.setHandover({ ...target, epoch: 2 });
      assert.deepEqual(store.listHandovers(), [source, { ...target, epoch: 2 }]);
      store.deleteHandover(source.id, 'source');
      assert.deepEqual(store.listHandovers(), [{ ...target, epoch: 2 }]);
    });

    test('makes several writes one', (store) => {
      const boom = new Error('boom');
      assert.throws(() => store.transaction(() => {
        store.insertVe(sampleVe(1));
        store.setMeta('a', 1);
        throw boom;
      }), boom);
      assert.deepEqual([store.listVes(), store.getMeta('a')], [[], undefined]);
      const result = store.transaction(() => {
        store.setMeta('outer', 1);
        for (let i = 0; i < 2; i += 1) {
          assert.throws(() => store.transaction(() => {
            store.setMeta('inner', 1);
            throw boom;
          }), boom);
        }
        assert.throws(() => store.insertVe(sampleVe(1, { layers: [{ id: 'gone', uidBase: 0 }] })));
        return store.transaction(() => 'done');
      });
      assert.deepEqual([result, store.getMeta('outer'), store.getMeta('inner'), store.listVes()], ['done', 1, undefined, []]);
      assert.throws(() => store.transaction(async () => store.setMeta('waits', 1)), /cannot wait/);
      assert.equal(store.getMeta('waits'), undefined);
    });

    test('keeps operations, newest first, and forgets old ended ones', (store) => {
      const full = sampleOperation('a', { ve: 'u', result: { x: [1, null] }, error: { code: 'internal', message: 'm', hint: 'h' }, requestId: 'r' });
      store.saveOperation(full);
      assert.deepEqual(store.operation('a'), full);
      for (const id of ['b', 'c', 'd']) store.saveOperation(sampleOperation(id, { state: 'succeeded', endedAt: NOW }));
      store.saveOperation({ ...full, percent: 50, message: 'half' });
      assert.deepEqual(store.listOperations(2).map((o) => o.id), ['d', 'c']);
      assert.equal(store.operation('a')?.percent, 50);
      store.pruneOperations(2);
      assert.deepEqual(store.listOperations(Number.MAX_SAFE_INTEGER).map((o) => o.id), ['d', 'c', 'a']);
      store.pruneOperations(0);
      assert.deepEqual(store.listOperations(9).map((o) => o.id), ['a']);
      assert.equal(store.operation('b'), undefined);
    });

    test('keeps one journal row per operation', (store) => {
      const row = { operation: 'o', kind: 'create', ve: null, phase: 'one', data: { a: 1 }, updatedAt: NOW };
      store.writeJournal(row);
      store.writeJournal({ ...row, operation: 'p' });
      store.writeJournal({ ...row, phase: 'two', data: { b: [2] } });
      assert.deepEqual(store.listJournal(), [{ ...row, phase: 'two', data: { b: [2] } }, { ...row, operation: 'p' }]);
      store.clearJournal('o');
      store.clearJournal('o');
      assert.deepEqual(store.listJournal().map((j) => j.operation), ['p']);
    });

    test('keeps small facts', (store) => {
      assert.equal(store.getMeta('k'), undefined);
      for (const value of [0, '', false, null, { a: [1, 'ü\n'] }]) {
        store.setMeta('k', value);
        assert.deepEqual(store.getMeta('k'), value);
      }
      store.setMeta('k', undefined);
      assert.equal(store.getMeta('k'), undefined);
    });
  });
}
