/** A server in JavaScript: each WebSocket is answered, and told numbers in between. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { until } from '../../lib/wait.ts';
import type { Load, LoadReport, Workload } from './types.ts';

const PORT = 8080;
const CLIENTS = 8;
const SERVER = `
const { WebSocketServer } = require("ws");
new WebSocketServer({ port: ${PORT} }).on("connection", (socket) => {
  let told = 0;
  const timer = setInterval(() => socket.send("told " + ++told), 50);
  socket.on("close", () => clearInterval(timer));
  socket.on("message", (data) => socket.send("answer " + data));
});
`;

export function websockets(): Workload {
  return {
    name: 'Node and WebSockets', packages: ['nodejs', 'node-ws'], rate: 200,
    async setup({ sh }) {
      await sh(`cat >/root/server.js <<'PROGRAM'
${SERVER}
PROGRAM
systemd-run --quiet --unit work -p Environment=NODE_PATH=/usr/share/nodejs node /root/server.js
timeout 30 sh -c 'until ss -Hltn | grep -q :${PORT}; do sleep 0.1; done' || { journalctl -u work --no-pager; exit 1; }`);
    },
    load: ({ address }) => begin(`ws://${address}:${PORT}`),
    async check(_, report) {
      assert.ok((report?.answers ?? 0) > 100);
    },
  };
}

async function begin(url: string): Promise<Load> {
  const report: LoadReport = { questions: 0, answers: 0, longestGap: 0, problems: [] };
  const end = new AbortController();
  const work: Promise<void>[] = [];
  for (let client = 0; client < CLIENTS; client++) {
    const socket = new WebSocket(url);
    let told = 0;
    let answered = '';
    socket.on('message', (data: Buffer) => {
      const [kind, word = ''] = data.toString('utf8').split(' ');
      if (kind === 'answer') answered = word;
      else if (Number(word) !== ++told) report.problems.push(`client ${client} was told ${word} instead of ${told}`);
    });
    socket.on('error', (error) => report.problems.push(`client ${client}: ${error.message}`));
    socket.on('close', (code) => { if (!end.signal.aborted) report.problems.push(`client ${client} was closed with ${code}`); });
    await once(socket, 'open');
    work.push((async () => {
      for (let n = 1; !end.signal.aborted; n++) {
        const since = performance.now();
        report.questions += 1;
        socket.send(String(n));
        await until(`the answer to ${n}`, () => answered === String(n) || report.problems.length > 0, 300_000, 5);
        report.answers += 1;
        report.longestGap = Math.max(report.longestGap, performance.now() - since);
        await sleep(15);
      }
      socket.terminate();
    })().catch((error: unknown) => { report.problems.push((error as Error).message); }));
  }
  return {
    answers: () => report.answers,
    async answered() {
      const before = report.answers;
      await until('an answer', () => report.problems.length > 0 || report.answers > before + 2 * CLIENTS, 300_000);
    },
    problems: () => report.problems,
    async stop() {
      end.abort();
      await Promise.all(work);
      return report;
    },
  };
}
