/** Takes or gives bytes, and prints in how many milliseconds: `node transfer.ts ADDRESS PORT get|put BYTES`. The other side is {@link TRANSFER} of network-fills.ts. */
import { connect } from 'node:net';

const [address, port, what, bytes] = process.argv.slice(2) as [string, string, string, string];
const since = performance.now();
let came = 0;
const socket = connect(Number(port), address, () => {
  socket.write(`${what} ${bytes}\n`);
  if (what === 'put') socket.write(Buffer.alloc(Number(bytes)));
});
socket.on('data', (chunk: Buffer) => { came += chunk.length; });
socket.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
socket.on('close', () => {
  if (came < (what === 'get' ? Number(bytes) : 4)) process.exitCode = 1;
  console.log(Math.round(performance.now() - since));
});
