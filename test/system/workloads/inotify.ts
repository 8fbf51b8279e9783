/** inotify: files that are made, written and moved after a resume are seen by who watched before. */
import assert from 'node:assert/strict';
import { until } from '../../lib/wait.ts';
import { PYTHON, runPython } from './python.ts';
import type { Workload } from './types.ts';

const FOLDERS = ['/srv/watched', '/var/lib/watched', '/run/watched', '/tmp/watched'];
const PROGRAM = `
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init()
paths = {}
for folder in ${JSON.stringify(FOLDERS)}:
    os.makedirs(folder, exist_ok=True)
    open(folder + "/file", "w").close()
    for path in (folder, folder + "/file"):
        paths[libc.inotify_add_watch(fd, path.encode(), 0x3ce)] = path
def watch():
    log = open("/root/seen", "a", buffering=1)
    while True:
        data, at = os.read(fd, 65536), 0
        while at < len(data):
            wd, mask, _, length = struct.unpack_from("iIII", data, at)
            print("%s %s %x" % (paths[wd], data[at + 16:at + 16 + length].rstrip(b"\\0").decode(), mask), file=log)
            at += 16 + length
threading.Thread(target=watch, daemon=True).start()
def answer(line):
    return line
`;

export function inotify(): Workload {
  return {
    name: 'inotify', packages: PYTHON,
    setup: (guest) => runPython(guest, PROGRAM),
    async afterResume({ sh }, round) {
      for (const folder of FOLDERS) {
        await sh(`: >/root/seen; echo x >>${folder}/file; echo y >${folder}/new-${round}; mv ${folder}/new-${round} ${folder}/moved-${round}`);
        const wanted = [`${folder}/file  2`, `${folder} new-${round} 100`, `${folder} moved-${round} 80`];
        let seen = '';
        await until(`events of ${folder}`, async () => {
          seen = await sh('cat /root/seen');
          return wanted.every((line) => seen.split('\n').includes(line));
        }, 5000).catch(() => assert.fail(`round ${round}: of changes in ${folder} were seen: ${JSON.stringify(seen)}`));
      }
    },
  };
}
