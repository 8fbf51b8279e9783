/** The unix socket of the API. */
import { chmodSync, chownSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import type { Api } from './types.ts';

/**
 * Listen at `path`. A socket that a dead daemon left is replaced.
 * @param group may use the socket, when the host has such a group
 * @throws VeldError `daemon.running` when somebody answers there; `settings.invalid` when the path is something else
 */
export async function listenOnSocket(app: Api, path: string, group: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
  await removeStaleSocket(path);
  // Connecting needs write permission, which nobody but root has before chmod, given the launcher's umask of 022.
  await app.listen({ path });
  chownSync(path, 0, groupId(group) ?? 0);
  chmodSync(path, 0o660);
}

async function removeStaleSocket(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  if (!stat.isSocket()) throw new VeldError('settings.invalid', `The socket's path ${path} is taken by something that is no socket.`, { details: { key: 'socket' } });
  const code = await new Promise<string | undefined>((resolve) => {
    const socket = connect(path);
    socket.setTimeout(2000, () => {
      socket.destroy();
      resolve(undefined); // it accepts no more, but it listens
    });
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
  });
  if (code !== 'ECONNREFUSED' && code !== 'ENOENT') throw new VeldError('daemon.running', `A daemon listens at ${path} already.`);
  if (code === 'ECONNREFUSED') unlinkSync(path);
}

/** Id of a local group (group(5)), or undefined. */
function groupId(name: string): number | undefined {
  for (const line of (readIfExists('/etc/group') ?? '').split('\n')) {
    const [group, , id] = line.split(':');
    if (group === name && /^\d+$/.test(id ?? '')) return Number(id);
  }
  return undefined;
}
