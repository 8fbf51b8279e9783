/** The store on SQLite. */
import { VeldError } from '../lib/errors.ts';
import { connect, type Connection, type Row } from './connection.ts';
import { MIGRATIONS, type Migration } from './migrations.ts';
import { nodesOf } from './nodes.ts';
import { poolsOf } from './pools.ts';
import { repositoriesOf } from './repositories.ts';
import type { Handover, JournalRecord, LayerRecord, LayerRef, OperationRecord, SnapshotRecord, Store, TemplateRecord, VeRecord, WarmImage } from './types.ts';

const VE = `SELECT *, (SELECT json_group_array(json_object('id', layer, 'uidBase', uid_base) ORDER BY position)
  FROM ve_layers WHERE ve = ves.uuid) AS layers FROM ves`;
const TEMPLATE = `SELECT *, (SELECT json_group_array(json_object('id', layer, 'uidBase', uid_base) ORDER BY position)
  FROM template_layers WHERE template = templates.fingerprint) AS layers FROM templates`;
const SNAPSHOT = `SELECT *, (SELECT json_group_array(json_object('id', layer, 'uidBase', uid_base) ORDER BY position)
  FROM snapshot_layers WHERE snapshot = snapshots.id) AS layers FROM snapshots`;

/**
 * Open the store; an older one is migrated after a backup copy was made beside it.
 * @param file path of the database, made with mode 0600 when it does not exist; `:memory:` for one that is gone when closed
 * @param migrations the schema (tests give their own)
 * @throws VeldError `store.corrupt`; `store.too_new`, nothing is changed then; `disk.full`
 */
export function openStore(file: string, migrations: readonly Migration[] = MIGRATIONS): Store {
  const db = connect(file, migrations);
  return {
    close: () => db.close(),
    transaction: (work) => db.transaction(work),
    ...ves(db),
    ...templates(db),
    ...layers(db),
    ...snapshots(db),
    ...warmImages(db),
    ...nodesOf(db),
    ...poolsOf(db),
    ...repositoriesOf(db),
    ...handovers(db),
    ...operations(db),
    ...journal(db),

    getMeta<T>(key: string): T | undefined {
      const row = db.get('SELECT value FROM meta WHERE key = ?', key);
      return row === undefined ? undefined : parse<T>(row.value);
    },
    setMeta(key, value) {
      if (value === undefined) db.run('DELETE FROM meta WHERE key = ?', key);
      else db.run('INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value', key, JSON.stringify(value));
    },
  };
}

/** The parts that read, for a connection that cannot write. */
export function readers(db: Connection): Pick<Store, 'listVes' | 'listTemplates' | 'listLayers' | 'listOperations' | 'listJournal'> {
  return { ...ves(db), ...templates(db), ...layers(db), ...operations(db), ...journal(db) };
}

function ves(db: Connection): Pick<Store, 'insertVe' | 'updateVe' | 'deleteVe' | 'veByUuid' | 'veByName' | 'veByNumber' | 'listVes'> {
  const values = (ve: VeRecord) => [
    ve.name, ve.template, ve.uidBase, JSON.stringify(ve.properties), JSON.stringify(ve.addresses), ve.mac, ve.desired, Number(ve.ready),
    Number(ve.guestDirty), ve.createdAt, ve.lastExit && JSON.stringify(ve.lastExit), ve.suspended && JSON.stringify(ve.suspended),
    ve.deployed, ve.notStarted && JSON.stringify(ve.notStarted), ve.uuid, ve.number,
  ];
  const one = (row: Row | undefined): VeRecord | undefined => row && veOf(row);
  return {
    insertVe: (ve) => db.transaction(() => {
      nameConflicts(ve, () => db.run(`INSERT INTO ves (name, template, uid_base, properties, addresses, mac, desired, ready, guest_dirty,
        created_at, last_exit, suspended, deployed, not_started, uuid, number) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, ...values(ve)));
      setLayers(db, 've_layers', 've', ve.uuid, ve.layers);
    }),
    updateVe: (ve) => db.transaction(() => {
      const { changes } = nameConflicts(ve, () => db.run(`UPDATE ves SET name = ?, template = ?, uid_base = ?, properties = ?, addresses = ?,
        mac = ?, desired = ?, ready = ?, guest_dirty = ?, created_at = ?, last_exit = ?, suspended = ?, deployed = ?, not_started = ? WHERE uuid = ? AND number = ?`, ...values(ve)));
      if (changes === 0) throw new VeldError('ve.not_found', `There is no VE with UUID ${ve.uuid} and number ${ve.number}.`);
      setLayers(db, 've_layers', 've', ve.uuid, ve.layers);
    }),
    deleteVe: (uuid) => void db.run('DELETE FROM ves WHERE uuid = ?', uuid),
    veByUuid: (uuid) => one(db.get(`${VE} WHERE uuid = ?`, uuid)),
    veByName: (name) => one(db.get(`${VE} WHERE name = ?`, name)),
    veByNumber: (number) => one(db.get(`${VE} WHERE number = ?`, number)),
    listVes: kept(db, () => db.all(`${VE} ORDER BY number`), veOf),
  };
}

function templates(db: Connection): Pick<Store, 'insertTemplate' | 'deleteTemplate' | 'updateTemplate' | 'findTemplate' | 'listTemplates'> {
  return {
    insertTemplate: (t) => db.transaction(() => {
      const twin = db.get('SELECT name FROM templates WHERE name = ? OR fingerprint = ? ORDER BY name = ? DESC', t.name, t.fingerprint, t.name);
      if (twin?.name === t.name) throw new VeldError('template.name_taken', `There is a template named ${t.name} already.`);
      if (twin !== undefined) throw new VeldError('template.name_taken', `The template ${String(twin.name)} has the very same content.`);
      db.run(`INSERT INTO templates (fingerprint, name, os, release, architecture, size, created_at, source) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
        t.fingerprint, t.name, t.os, t.release, t.architecture, t.size, t.createdAt, JSON.stringify(t.source));
      setLayers(db, 'template_layers', 'template', t.fingerprint, t.layers);
    }),
    deleteTemplate: (fingerprint) => void db.run('DELETE FROM templates WHERE fingerprint = ?', fingerprint),
    updateTemplate: (fingerprint, { name, source }) => db.transaction(() => {
      if (name !== undefined) {
        if (db.get('SELECT 1 FROM templates WHERE name = ? AND fingerprint <> ?', name, fingerprint) !== undefined) throw new VeldError('template.name_taken', `There is a template named ${name} already.`);
        db.run('UPDATE templates SET name = ? WHERE fingerprint = ?', name, fingerprint);
      }
      if (source !== undefined) db.run('UPDATE templates SET source = ? WHERE fingerprint = ?', JSON.stringify(source), fingerprint);
    }),
    findTemplate(key) {
      const row = db.get(`${TEMPLATE} WHERE name = ? OR fingerprint = ?`, key, key);
      if (row !== undefined) return templateOf(row);
      if (!/^[0-9a-f]{8,63}$/.test(key)) return undefined;
      const found = db.all(`${TEMPLATE} WHERE fingerprint >= ? AND fingerprint < ? LIMIT 2`, key, `${key}g`); // g comes after the digits
      return found.length === 1 && found[0] !== undefined ? templateOf(found[0]) : undefined;
    },
    listTemplates: kept(db, () => db.all(`${TEMPLATE} ORDER BY name`), templateOf),
  };
}

function layers(db: Connection): Pick<Store, 'insertLayer' | 'deleteLayer' | 'layer' | 'listLayers' | 'layerUses'> {
  const layerUses = (id: string): number => Number(db.get(`SELECT (SELECT count(DISTINCT ve) FROM ve_layers WHERE layer = ?)
    + (SELECT count(DISTINCT template) FROM template_layers WHERE layer = ?)
    + (SELECT count(DISTINCT snapshot) FROM snapshot_layers WHERE layer = ?)
    + (SELECT count(*) FROM warm_images WHERE layer = ?) AS uses`, id, id, id, id)?.uses);
  return {
    insertLayer: (layer) => void db.run('INSERT INTO layers (id, uid_base, size, created_at) VALUES (?, ?, ?, ?)',
      layer.id, layer.uidBase, layer.size, layer.createdAt),
    deleteLayer: (id) => db.transaction(() => {
      const uses = layerUses(id);
      if (uses > 0) throw new VeldError('layer.in_use', `Layer ${id} is used by ${uses} VEs, templates, snapshots or warm images.`, { details: { layer: id, uses } });
      db.run('DELETE FROM layers WHERE id = ?', id);
    }),
    layer(id) {
      const row = db.get('SELECT * FROM layers WHERE id = ?', id);
      return row && layerOf(row);
    },
    listLayers: () => db.all('SELECT * FROM layers ORDER BY created_at, id').map(layerOf),
    layerUses,
  };
}

function snapshots(db: Connection): Pick<Store, 'insertSnapshot' | 'deleteSnapshot' | 'listSnapshots'> {
  return {
    insertSnapshot: (s) => db.transaction(() => {
      const twin = db.get('SELECT name FROM snapshots WHERE ve = ? AND name = ?', s.ve, s.name);
      if (twin !== undefined) throw new VeldError('snapshot.name_taken', `The VE has a snapshot named ${s.name} already.`);
      db.run('INSERT INTO snapshots (id, ve, name, description, parent, created_at, properties, engine) VALUES (?, ?, ?, ?, ?, ?, ?, ?)', s.id, s.ve, s.name, s.description, s.parent, s.createdAt, JSON.stringify(s.properties), s.engine);
      setLayers(db, 'snapshot_layers', 'snapshot', s.id, s.layers);
    }),
    deleteSnapshot: (id) => db.transaction(() => {
      db.run('UPDATE snapshots SET parent = (SELECT parent FROM snapshots WHERE id = ?) WHERE parent = ?', id, id);
      db.run('DELETE FROM snapshots WHERE id = ?', id);
    }),
    listSnapshots: (ve) => (ve === undefined ? db.all(`${SNAPSHOT} ORDER BY created_at, id`) : db.all(`${SNAPSHOT} WHERE ve = ? ORDER BY created_at, id`, ve)).map(snapshotOf),
  };
}

function warmImages(db: Connection): Pick<Store, 'setWarmImage' | 'deleteWarmImage' | 'listWarmImages'> {
  return {
    setWarmImage: (image) => void db.run(`INSERT OR REPLACE INTO warm_images (template, id, layer, uid_base, host, engine, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)`,
      image.template, image.id, image.layer.id, image.layer.uidBase, image.host, image.engine, image.createdAt),
    deleteWarmImage: (template) => void db.run('DELETE FROM warm_images WHERE template = ?', template),
    listWarmImages: () => db.all('SELECT * FROM warm_images ORDER BY template').map((row) => ({
      template: row.template, id: row.id, layer: { id: row.layer, uidBase: row.uid_base }, host: row.host, engine: row.engine, createdAt: row.created_at,
    } as WarmImage)),
  };
}

function handovers(db: Connection): Pick<Store, 'setHandover' | 'deleteHandover' | 'listHandovers'> {
  return {
    setHandover: (h) => void db.run('INSERT OR REPLACE INTO handovers (id, role, ve, node, epoch, kind, at) VALUES (?, ?, ?, ?, ?, ?, ?)', h.id, h.role, h.ve, h.node, h.epoch, h.kind, h.at),
    deleteHandover: (id, role) => void db.run('DELETE FROM handovers WHERE id = ? AND role = ?', id, role),
    listHandovers: () => db.all('SELECT * FROM handovers ORDER BY at, id').map((row) => ({ id: row.id, role: row.role, ve: row.ve, node: row.node, epoch: row.epoch, kind: row.kind, at: row.at } as Handover)),
  };
}

function operations(db: Connection): Pick<Store, 'saveOperation' | 'operation' | 'listOperations' | 'pruneOperations'> {
  return {
    saveOperation(o) {
      const save = (): unknown => db.run(`INSERT INTO operations (id, kind, ve, state, percent, message, result, error, created_at, ended_at, request_id)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state, percent = excluded.percent,
        message = excluded.message, result = excluded.result, error = excluded.error, ended_at = excluded.ended_at`,
      o.id, o.kind, o.ve, o.state, o.percent, o.message, JSON.stringify(o.result ?? null), o.error && JSON.stringify(o.error),
      o.createdAt, o.endedAt, o.requestId);
      // That one has begun, and how far it is, need not survive a power cut: what it has done is in the journal, which waits for the disk.
      if (o.state === 'running') db.soon(save);
      else save();
    },
    operation(id) {
      const row = db.get('SELECT * FROM operations WHERE id = ?', id);
      return row && operationOf(row);
    },
    listOperations: (limit) => db.all('SELECT * FROM operations ORDER BY seq DESC LIMIT ?', Math.max(0, Math.trunc(limit))).map(operationOf),
    pruneOperations: (keep) => void db.run(`DELETE FROM operations WHERE state <> 'running' AND seq <= coalesce(
      (SELECT seq FROM operations WHERE state <> 'running' ORDER BY seq DESC LIMIT 1 OFFSET ?), 0)`, Math.max(0, Math.trunc(keep))),
  };
}

function journal(db: Connection): Pick<Store, 'writeJournal' | 'clearJournal' | 'listJournal'> {
  return {
    writeJournal: (j) => void db.run(`INSERT INTO journal (operation, kind, ve, phase, data, updated_at) VALUES (?, ?, ?, ?, ?, ?)
      ON CONFLICT (operation) DO UPDATE SET phase = excluded.phase, data = excluded.data, updated_at = excluded.updated_at`,
    j.operation, j.kind, j.ve, j.phase, JSON.stringify(j.data), j.updatedAt),
    clearJournal: (operation) => void db.run('DELETE FROM journal WHERE operation = ?', operation),
    listJournal: () => db.all('SELECT * FROM journal ORDER BY seq').map((row) => ({
      operation: row.operation, kind: row.kind, ve: row.ve, phase: row.phase, data: parse(row.data), updatedAt: row.updated_at,
    } as JournalRecord)),
  };
}

/** A list that is asked for much more often than it changes: its rows are kept until something was written. Each caller gets records of its own. */
function kept<T>(db: Connection, read: () => Row[], of: (row: Row) => T): () => T[] {
  let rows: Row[] = [];
  let version = -1;
  return () => {
    if (version !== db.version) {
      rows = read();
      ({ version } = db);
    }
    return rows.map(of);
  };
}

/** Replace the layers of a VE or template. */
function setLayers(db: Connection, table: string, column: string, owner: string, refs: readonly LayerRef[]): void {
  db.run(`DELETE FROM ${table} WHERE ${column} = ?`, owner);
  for (const [position, ref] of refs.entries()) {
    db.run(`INSERT INTO ${table} (${column}, position, layer, uid_base) VALUES (?, ?, ?, ?)`, owner, position, ref.id, ref.uidBase);
  }
}

/** SQLite names the column whose uniqueness would break: for a name this is the user's business, for the others a fault of ours. */
function nameConflicts<T>(ve: VeRecord, write: () => T): T {
  try {
    return write();
  } catch (error) {
    const text = error instanceof Error ? error.message : '';
    if (text.includes('UNIQUE constraint failed: ves.name')) {
      throw new VeldError('ve.name_taken', `There is a VE named ${ve.name} already.`, { details: { name: ve.name }, cause: error });
    }
    throw error;
  }
}

function parse<T>(text: unknown): T {
  return JSON.parse(text as string) as T;
}

function veOf(row: Row): VeRecord {
  return {
    uuid: row.uuid, number: row.number, name: row.name, template: row.template, layers: parse(row.layers), uidBase: row.uid_base,
    properties: parse(row.properties), addresses: parse(row.addresses), mac: row.mac, desired: row.desired, ready: row.ready === 1,
    guestDirty: row.guest_dirty === 1, createdAt: row.created_at, lastExit: row.last_exit === null ? null : parse(row.last_exit),
    suspended: row.suspended === null ? null : parse(row.suspended), deployed: row.deployed, notStarted: row.not_started === null ? null : parse(row.not_started),
  } as VeRecord;
}

function templateOf(row: Row): TemplateRecord {
  return {
    fingerprint: row.fingerprint, name: row.name, os: row.os, release: row.release, architecture: row.architecture, layers: parse(row.layers),
    size: row.size, createdAt: row.created_at, source: parse(row.source),
  } as TemplateRecord;
}

function snapshotOf(row: Row): SnapshotRecord {
  return {
    id: row.id, ve: row.ve, name: row.name, description: row.description, parent: row.parent, createdAt: row.created_at, layers: parse(row.layers), properties: parse(row.properties), engine: row.engine,
  } as SnapshotRecord;
}

function layerOf(row: Row): LayerRecord {
  return { id: row.id, uidBase: row.uid_base, createdAt: row.created_at, size: row.size } as LayerRecord;
}

function operationOf(row: Row): OperationRecord {
  return {
    id: row.id, kind: row.kind, ve: row.ve, state: row.state, percent: row.percent, message: row.message,
    result: row.result === null ? null : parse(row.result), error: row.error === null ? null : parse(row.error),
    createdAt: row.created_at, endedAt: row.ended_at, requestId: row.request_id,
  } as OperationRecord;
}
