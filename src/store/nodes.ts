/** Paired nodes and tokens, on SQLite. */
import { VeldError } from '../lib/errors.ts';
import type { Connection, Row } from './connection.ts';
import type { NodeRecord, NodeTokenRecord, Store } from './types.ts';

/** The store's part about nodes. */
export function nodesOf(db: Connection): Pick<Store, 'saveNode' | 'deleteNode' | 'listNodes' | 'insertNodeToken' | 'takeNodeToken' | 'pruneNodeTokens'> {
  return {
    saveNode: (n) => db.transaction(() => {
      if (db.get('SELECT id FROM nodes WHERE name = ? AND id <> ?', n.name, n.id) !== undefined) throw new VeldError('node.name_taken', `There is a node named ${n.name} already.`);
      db.run(`INSERT INTO nodes (id, name, address, allow, authorities, facts, ended, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, address = excluded.address, allow = excluded.allow, authorities = excluded.authorities,
        facts = excluded.facts, ended = excluded.ended`,
      n.id, n.name, n.address, JSON.stringify(n.allow), JSON.stringify(n.authorities), n.facts && JSON.stringify(n.facts), n.ended && JSON.stringify(n.ended), n.createdAt);
    }),
    deleteNode: (id) => void db.run('DELETE FROM nodes WHERE id = ?', id),
    listNodes: () => db.all('SELECT * FROM nodes ORDER BY name').map(nodeOf),

    insertNodeToken: (t) => void db.run('INSERT INTO node_tokens (id, key, name, allow, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)',
      t.id, t.key, t.name, JSON.stringify(t.allow), t.createdAt, t.expiresAt),
    takeNodeToken: (id) => db.transaction(() => {
      const row = db.get('SELECT * FROM node_tokens WHERE id = ?', id);
      if (row !== undefined) db.run('DELETE FROM node_tokens WHERE id = ?', id);
      return row && tokenOf(row);
    }),
    pruneNodeTokens: (now) => db.transaction(() => {
      db.run('DELETE FROM node_tokens WHERE expires_at < ?', now);
      return Number(db.get('SELECT count(*) AS count FROM node_tokens')?.count);
    }),
  };
}

function nodeOf(row: Row): NodeRecord {
  return {
    id: row.id, name: row.name, address: row.address, allow: parse(row.allow), authorities: parse(row.authorities), facts: parse(row.facts), ended: parse(row.ended),
    createdAt: row.created_at,
  } as NodeRecord;
}

function tokenOf(row: Row): NodeTokenRecord {
  return { id: row.id, key: row.key, name: row.name, allow: parse(row.allow), createdAt: row.created_at, expiresAt: row.expires_at } as NodeTokenRecord;
}

function parse(text: unknown): unknown {
  return text === null ? null : JSON.parse(text as string);
}
