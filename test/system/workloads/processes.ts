/** 500 processes in a tree: each question goes down to every one of them and comes back. */
import assert from 'node:assert/strict';
import { talk, untilText } from './clients/talk.ts';
import { PORT, PYTHON, runPython } from './python.ts';
import type { Workload } from './types.ts';

/** 20 children with 24 children each: 500 with their parents. */
const PROGRAM = `
import os, sys
def child(work):
    down, up = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(down[1]); os.close(up[0])
        try:
            work(down[0], up[1])
        finally:
            os._exit(0)
    os.close(down[0]); os.close(up[1])
    return down[1], up[0]
def leaf(ask, tell):
    while os.read(ask, 1):
        os.write(tell, b"%8d" % 1)
def ask_all(children):
    for down, _ in children:
        os.write(down, b"x")
    return sum(int(os.read(up, 8)) for _, up in children)
def branch(ask, tell):
    children = [child(leaf) for _ in range(24)]
    while os.read(ask, 1):
        os.write(tell, b"%8d" % (1 + ask_all(children)))
children = [child(branch) for _ in range(20)]
lock = threading.Lock()
def answer(line):
    with lock:
        return line + " " + str(ask_all(children))
`;

export function processes(): Workload {
  return {
    name: '500 processes', packages: PYTHON, rounds: 3,
    setup: (guest) => runPython(guest, PROGRAM),
    load: ({ address }) => talk({
      host: address, port: PORT, clients: 2, pause: 100,
      async ask(line, n) {
        line.send(`${n}\n`);
        const said = await line.receive(untilText('\n'));
        if (said !== `${n} 500`) throw new Error(`asked for ${n}, was told ${said}`);
      },
    }),
    async check({ sh }) {
      assert.ok(Number(await sh('pgrep -c -f work.py')) >= 501);
    },
  };
}
