/**
 * Asks a neighbour the same small thing ten times a second, and notes each answer: `node asker.ts ADDRESS PORT FILE`. A line of the file is how long one took in
 * milliseconds, and what was said. It ends when the file is removed.
 */
import { appendFileSync, existsSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const [address, port, file] = process.argv.slice(2) as [string, string, string];

/** Milliseconds after which an answer is given up. */
const PATIENCE = 60_000;

function ask(): Promise<string> {
  return new Promise((resolve) => {
    let said = '';
    const socket = connect(Number(port), address).setTimeout(PATIENCE, () => socket.destroy(new Error('no answer')));
    socket.on('data', (chunk: Buffer) => { said += chunk.toString(); }).on('error', (error) => resolve(error.message)).on('close', () => resolve(said));
  });
}

while (existsSync(file)) {
  const since = performance.now();
  const said = await ask();
  if (existsSync(file)) appendFileSync(file, `${Math.round(performance.now() - since)} ${said.trim()}\n`);
  await sleep(100);
}
