/** Locks on files: held ones stay held, also against who waits for them, and can be given back. */
import assert from 'node:assert/strict';
import { PYTHON, runPython } from './python.ts';
import type { Workload } from './types.ts';

/** POSIX locks belong to a process, flock's and those of open file descriptions (OFD) to an open file. */
const PROGRAM = `
import fcntl, os, struct, time
def ofd(kind):
    return struct.pack("hhqqi4x", kind, 0, 0, 0, 0)
KINDS = {
    "posix": lambda f, wait: fcntl.lockf(f, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)),
    "flock": lambda f, wait: fcntl.flock(f, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)),
    "ofd": lambda f, wait: fcntl.fcntl(f, 38 if wait else 37, ofd(fcntl.F_WRLCK)),
}
UNLOCK = {
    "posix": lambda f: fcntl.lockf(f, fcntl.LOCK_UN),
    "flock": lambda f: fcntl.flock(f, fcntl.LOCK_UN),
    "ofd": lambda f: fcntl.fcntl(f, 37, ofd(fcntl.F_UNLCK)),
}
held = {}
for kind, lock in KINDS.items():
    for folder in ("/srv", "/run"):
        path = "%s/%s.lock" % (folder, kind)
        held[path] = open(path, "w")
        lock(held[path], True)
        if os.fork() == 0:
            mine = open(path, "r+")
            lock(mine, True)
            open("/root/got", "a").write(path + "\\n")
            time.sleep(100000)
def kind_of(path):
    return path.split("/")[-1].split(".")[0]
def tried(path):
    down, up = os.pipe()
    if os.fork() == 0:
        try:
            KINDS[kind_of(path)](open(path, "r+"), False)
            os.write(up, b"free")
        except OSError:
            os.write(up, b"held")
        os._exit(0)
    return os.read(down, 4).decode()
def answer(line):
    if line == "try":
        return " ".join(path + "=" + tried(path) for path in held)
    for path, file in held.items():
        UNLOCK[kind_of(path)](file)
    return "given back"
`;

const ask = (word: string): string => `python3 -c 'import socket; s = socket.create_connection(("127.0.0.1", 7000)); s.sendall(b"${word}\\n"); print(s.recv(4096).decode(), end="")'`;
const FILES = ['posix', 'flock', 'ofd'].flatMap((kind) => ['/srv', '/run'].map((folder) => `${folder}/${kind}.lock`));

export function locks(): Workload {
  return {
    name: 'file locks', packages: PYTHON,
    setup: (guest) => runPython(guest, PROGRAM),
    async afterResume({ sh }, round) {
      assert.equal(await sh(ask('try')), `${FILES.map((path) => `${path}=held`).join(' ')}\n`, `round ${round}`);
      assert.equal(await sh('cat /root/got 2>/dev/null || :'), '', 'who waits has got it');
    },
    async check({ sh }) {
      assert.equal(await sh(ask('release')), 'given back\n');
      const got = await sh(`timeout 10 sh -c 'until [ "$(wc -l </root/got)" -ge ${FILES.length} ]; do sleep 0.2; done'; sort /root/got`);
      assert.deepEqual(got.trim().split('\n'), FILES.toSorted(), 'who waited has got it when it was given back');
    },
  };
}
