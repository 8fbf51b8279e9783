/** 1 GB of memory that changes all the time: 16 parts, each looked at by its checksum before it is filled anew. */
import assert from 'node:assert/strict';
import { talk, untilText } from './clients/talk.ts';
import { PORT, PYTHON, runPython } from './python.ts';
import type { Workload } from './types.ts';

const PROGRAM = `
import mmap, os, time, zlib
SIZE = 64 << 20
parts = [mmap.mmap(-1, SIZE) for _ in range(16)]
sums = [0] * 16
filled = wrong = 0
def fill(i):
    random = os.urandom(1 << 20)
    parts[i].seek(0)
    for n in range(64):
        parts[i].write(n.to_bytes(8, "big") + random[8:])
    sums[i] = zlib.crc32(parts[i])
for i in range(16):
    fill(i)
def change():
    global filled, wrong
    while True:
        i = filled % 16
        if zlib.crc32(parts[i]) != sums[i]:
            wrong += 1
        fill(i)
        filled += 1
        time.sleep(0.05)
threading.Thread(target=change, daemon=True).start()
def answer(line):
    return "%s %d %d" % (line, filled, wrong)
`;

export function memory(): Workload {
  let filled = 0;
  return {
    name: '1 GB of changing memory', packages: PYTHON,
    setup: (guest) => runPython(guest, PROGRAM),
    load: ({ address }) => talk({
      host: address, port: PORT, clients: 1, pause: 50,
      async ask(line, n) {
        line.send(`${n}\n`);
        const [again, times, wrong] = (await line.receive(untilText('\n'))).split(' ');
        if (again !== String(n) || wrong !== '0' || Number(times) < filled) throw new Error(`asked for ${n}, was told ${again}, filled ${times} times, ${wrong} wrong`);
        filled = Number(times);
      },
    }),
    async check() {
      assert.ok(filled > 32, `${filled} parts were filled: too few to say anything`);
    },
  };
}
