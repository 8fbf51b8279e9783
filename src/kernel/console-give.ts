/**
 * A program: hands the console of a VE that has just been restored to its monitor.
 *
 * A dump takes the console's terminal along because a process in the VE holds its master meanwhile (`src/ve/console-keeper.ts`). When the VE is
 * back, and before anything in it runs, libexec/veld-criu-hook calls this with that process's pid and the monitor's socket (runtime-spec, "consoleSocket").
 */
import { closeSync } from 'node:fs';
import { duplicateMaster } from './console-master.ts';
import { readProcess } from './process.ts';
import { connectUnix, sendDescriptor } from './unix-sockets.ts';

const [pid = '', socket = ''] = process.argv.slice(2);
const keeper = readProcess(Number(pid));
const master = keeper && duplicateMaster(keeper);
if (master === undefined) {
  process.stderr.write(`process ${pid} holds no console\n`);
  process.exit(1);
}
const connection = connectUnix(socket);
sendDescriptor(connection, master, '/dev/console');
closeSync(connection);
