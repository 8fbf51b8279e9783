/** 1,000 TCP connections at a time, each asking every few seconds. */
import assert from 'node:assert/strict';
import { talk, untilText } from './clients/talk.ts';
import { PORT, PYTHON, runPython } from './python.ts';
import type { Workload } from './types.ts';

const PROGRAM = `
import asyncio
async def client(reader, writer):
    while line := await reader.readline():
        writer.write(line)
async def main():
    server = await asyncio.start_server(client, "0.0.0.0", ${PORT}, backlog=1024)
    await server.serve_forever()
asyncio.run(main())
`;

export function connections(): Workload {
  return {
    name: '1,000 connections', packages: PYTHON, rate: 200,
    setup: (guest) => runPython(guest, PROGRAM),
    load: ({ address }) => talk({
      host: address, port: PORT, clients: 1000, pause: 3000,
      async ask(line, n, client) {
        line.send(`${client} ${n}\n`);
        const said = await line.receive(untilText('\n'));
        if (said !== `${client} ${n}`) throw new Error(`asked for ${client} ${n}, was told ${said}`);
      },
    }),
    async check(_, report) {
      assert.ok((report?.answers ?? 0) > 1000);
    },
  };
}
