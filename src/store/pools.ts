/** Pools, on SQLite. */
import { VeldError } from '../lib/errors.ts';
import type { Connection } from './connection.ts';
import type { PoolRecord, Store } from './types.ts';

/** The store's part about pools. */
export function poolsOf(db: Connection): Pick<Store, 'insertPool' | 'deletePool' | 'listPools'> {
  return {
    insertPool: (pool) => db.transaction(() => {
      if (db.get('SELECT name FROM pools WHERE name = ?', pool.name) !== undefined) throw new VeldError('pool.name_taken', `There is a pool named ${pool.name} already.`);
      db.run('INSERT INTO pools (name, path, driver, image, created_at) VALUES (?, ?, ?, ?, ?)', pool.name, pool.path, pool.driver, pool.image && JSON.stringify(pool.image), pool.createdAt);
    }),
    deletePool: (name) => void db.run('DELETE FROM pools WHERE name = ?', name),
    listPools: () => db.all('SELECT * FROM pools ORDER BY name').map((row) => ({
      name: row.name, path: row.path, driver: row.driver, image: row.image === null ? null : JSON.parse(row.image as string), createdAt: row.created_at,
    } as PoolRecord)),
  };
}
