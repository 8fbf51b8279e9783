/** Rows whose program is a few lines of Python: what servers do, one thing at a time, and answers about it on a port. */
import type { Guest } from './types.ts';

/** Its package. */
export const PYTHON = ['python3'];

/** Where the programs answer. */
export const PORT = 7000;

/** Answers each line that a client sends by what `answer(line)` gives; a thread for each client. */
const SERVER = `
import socket, socketserver, threading
class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    def handle(self):
        for line in self.rfile:
            self.wfile.write((str(answer(line.decode().strip())) + "\\n").encode())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024
def serve():
    Server(("0.0.0.0", ${PORT}), Handler).serve_forever()
`;

/** Run a program as the service `work`, and wait until it listens. @param program defines `answer(line)` and what goes on besides; `serve()` is called at its end */
export async function runPython({ sh }: Guest, program: string): Promise<void> {
  await sh(`cat >/root/work.py <<'PROGRAM'
${SERVER}
${program}
serve()
PROGRAM
systemd-run --quiet --unit work -p LimitNOFILE=8192 -p LimitMEMLOCK=infinity /usr/bin/python3 -u /root/work.py
timeout 60 sh -c 'until ss -Hltn | grep -q :${PORT}; do sleep 0.1; done' || { journalctl -u work --no-pager; exit 1; }`);
}
