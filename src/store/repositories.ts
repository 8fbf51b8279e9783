/** Repositories of backups, on SQLite. */
import { VeldError } from '../lib/errors.ts';
import type { Connection } from './connection.ts';
import type { RepositoryRecord, Store } from './types.ts';

/** The store's part about repositories. */
export function repositoriesOf(db: Connection): Pick<Store, 'insertRepository' | 'deleteRepository' | 'listRepositories'> {
  return {
    insertRepository: ({ name, location, identity, createdAt }) => db.transaction(() => {
      if (db.get('SELECT name FROM repositories WHERE name = ?', name) !== undefined) throw new VeldError('repository.name_taken', `There is a repository named ${name} already.`);
      db.run('INSERT INTO repositories (name, location, identity, created_at) VALUES (?, ?, ?, ?)', name, location, identity, createdAt);
    }),
    deleteRepository: (name) => void db.run('DELETE FROM repositories WHERE name = ?', name),
    listRepositories: () => db.all('SELECT * FROM repositories ORDER BY name').map((row) => ({ name: row.name, location: row.location, identity: row.identity, createdAt: row.created_at } as RepositoryRecord)),
  };
}
