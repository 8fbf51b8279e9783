import { test } from 'node:test';
import assert from 'node:assert/strict';
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { acceptUnix, connectUnix, endTcpRepair, listenUnix, receiveDescriptors, sendDescriptor } from './unix-sockets.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-unix-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

test('a descriptor and a word arrive at the other end, the same open file', () => {
  const path = join(folder, 's');
  writeFileSync(join(folder, 'file'), 'content');
  const listener = listenUnix(path);
  const sender = connectUnix(path);
  const receiver = acceptUnix(listener);
  const file = openSync(join(folder, 'file'), 'r');
  try {
    sendDescriptor(sender, file, 'a word');
    const { bytes, descriptors, truncated } = receiveDescriptors(receiver);
    assert.deepEqual([bytes, descriptors.length, truncated], [6, 1, false]);
    const [got] = descriptors as [number];
    assert.equal(fstatSync(got).ino, fstatSync(file).ino);
    // One position for both: it is no second opening.
    readSync(got, Buffer.alloc(3));
    const rest = Buffer.alloc(10);
    assert.equal(rest.toString('utf8', 0, readSync(file, rest)), 'tent');
    closeSync(got);
    closeSync(sender);
    assert.deepEqual(receiveDescriptors(receiver), { bytes: 0, descriptors: [], truncated: false });
  } finally {
    for (const fd of [file, receiver, listener]) closeSync(fd);
  }
});

test('nobody listens: said with the path', () => {
  const path = join(folder, 'nobody');
  assert.throws(() => connectUnix(path), { code: 'ENOENT', path });
  assert.throws(() => connectUnix('x'.repeat(108)), { code: 'ENAMETOOLONG' });
});

test('what is no connection in repair mode is left alone', async () => {
  const file = openSync('/dev/null', 'r');
  assert.equal(endTcpRepair(file), false);
  closeSync(file);
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  await once(socket, 'connect');
  assert.equal(endTcpRepair((socket as unknown as { _handle: { fd: number } })._handle.fd), false);
  socket.destroy();
  server.close();
});
