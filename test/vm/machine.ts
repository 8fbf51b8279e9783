/**
 * Virtual machines without KVM: booted from an image of image.ts, used by ssh, ended by killing QEMU.
 *
 * `boot()` gives a machine that answers; `machine.run('sh -c ...')` runs a command as root; `powerCut()` kills it as a power cut would (what the
 * guest had not written is lost), `reboot()` and `start()` bring it back with the same disks. All machines of a process are killed by pid when it
 * ends, however it ends, and QEMU itself dies with its parent.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, cpSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import { after } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CACHE } from '../lib/cache.ts';
import { findImage } from './image.ts';
import type { Image, Suite } from './image.ts';
import { findQemu } from './qemu.ts';
import type { Qemu } from './qemu.ts';

/** How long a machine may take from power on to an answer by ssh, in milliseconds. */
const BOOT_PATIENCE = 240_000;
/** How long a command may take unless said otherwise, in milliseconds. */
const COMMAND_PATIENCE = 120_000;

export interface MachineOptions {
  suite: Suite;
  /** Name for logs, and host name; machines of one test have different ones. */
  name?: string;
  /** Raw images that are attached as further disks (changes stay in this machine). */
  disks?: string[];
  /** Words added to the kernel's command line. */
  append?: string;
  /** MiB. */
  memory?: number;
  /** Port of the host's loopback through which two machines are joined, and which end this one is; see {@link joinedPair}. */
  join?: { port: number; listen: boolean; mac: string };
}

export interface RunOutcome {
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunSettings {
  /** Standard input. */
  input?: string | Uint8Array;
  /** Milliseconds. */
  timeout?: number;
  /** Do not throw on a status other than 0. */
  allow?: boolean;
}

export interface Machine {
  readonly name: string;
  /** Run a line of shell as root. @throws Error with all output when its status is not 0 (see `allow`) */
  run(line: string, settings?: RunSettings): Promise<RunOutcome>;
  /** Its standard output, trimmed. */
  ask(line: string, settings?: RunSettings): Promise<string>;
  /** Copy files or folders of the host into a folder of the machine. */
  send(paths: string[], folder: string): Promise<void>;
  /** Copy a file or folder of the machine into a folder of the host. */
  fetch(path: string, folder: string): Promise<void>;
  /** Power on, and wait until it answers. Does nothing when it runs. */
  start(): Promise<void>;
  /** Kill it in the middle of whatever it does. */
  powerCut(): Promise<void>;
  /** Shut down in order and boot again. */
  reboot(): Promise<void>;
  /** Shut down in order. */
  shutDown(): Promise<void>;
  /** Console output of all its boots. */
  console(): string;
  /** Save the journal, the daemon's log and the console in a folder. */
  collect(folder: string): Promise<void>;
  /** Kill it and remove its disks. */
  destroy(): Promise<void>;
}

const living = new Set<ChildProcess>();
process.on('exit', () => { for (const child of living) child.kill('SIGKILL'); });
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    for (const child of living) child.kill('SIGKILL');
    process.exit(1);
  });
}

/** Boot a machine; it is destroyed after the tests of this file, its logs are kept for a failed one. */
export async function boot(options: MachineOptions): Promise<Machine> {
  const [qemu, image] = await Promise.all([findQemu(), findImage(options.suite)]);
  const machine = makeMachine(options, qemu, image, await freePort());
  after(async () => {
    const logs = process.env.VELD_TEST_LOGS;
    if (logs !== undefined) await machine.collect(join(logs, basename(process.argv[1] ?? 'test'), machine.name)).catch(() => {});
    await machine.destroy();
  });
  await machine.start();
  return machine;
}

/** Boot two machines whose eth1 are joined by a wire. */
export async function joinedPair(one: MachineOptions, other: MachineOptions): Promise<[Machine, Machine]> {
  const port = await freePort();
  // The one that listens must be there first.
  const first = await boot({ ...one, name: one.name ?? 'one', join: { port, listen: true, mac: '52:54:00:00:00:01' } });
  const second = await boot({ ...other, name: other.name ?? 'two', join: { port, listen: false, mac: '52:54:00:00:00:02' } });
  return [first, second];
}

function makeMachine(options: MachineOptions, qemu: Qemu, image: Image, port: number): Machine {
  const name = options.name ?? 'vm';
  mkdirSync(join(CACHE, 'vm'), { recursive: true, mode: 0o700 });
  const folder = mkdtempSync(join(CACHE, 'vm', `.run-${process.pid}-`));
  const consoleFile = join(folder, 'console.log');
  const errorFile = join(folder, 'qemu.log');
  const disks = [image.disk, ...(options.disks ?? [])].map((base, i) => {
    const overlay = join(folder, `disk${i}.qcow2`);
    const made = spawnSync(qemu.img, ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', base, overlay], { encoding: 'utf8' });
    if (made.status !== 0) throw new Error(`qemu-img: ${made.stderr}`);
    return overlay;
  });
  const { join: wire } = options;
  const machineId = Buffer.from(name).toString('hex').slice(0, 20).padEnd(32, '7');
  const args = [
    ...qemu.firmware, '-name', `veld-test-${name}`, '-nodefaults', '-display', 'none', '-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'qemu64', '-smp', '2',
    '-m', String(options.memory ?? 2048), '-kernel', image.kernel, '-initrd', image.initrd,
    '-append', `console=ttyS0 root=/dev/vda rw panic=-1 net.ifnames=0 quiet systemd.show_status=no systemd.machine_id=${machineId} systemd.hostname=${name} ${options.append ?? ''}`,
    '-chardev', `file,id=console,path=${consoleFile},append=on`, '-serial', 'chardev:console', '-no-reboot',
    ...disks.flatMap((disk) => ['-drive', `file=${disk},if=virtio,format=qcow2,cache=unsafe,discard=unmap`]),
    '-device', 'virtio-rng-pci',
    '-netdev', `user,id=world,hostfwd=tcp:127.0.0.1:${port}-:22`, '-device', 'virtio-net-pci,netdev=world,romfile=',
    ...(wire ? ['-netdev', `socket,id=wire,${wire.listen ? 'listen' : 'connect'}=127.0.0.1:${wire.port}`, '-device', `virtio-net-pci,netdev=wire,mac=${wire.mac},romfile=`] : []),
  ];
  const control = join(folder, 'ssh');
  const ssh = ['-p', String(port), '-i', image.key, '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR', '-o', 'BatchMode=yes',
    '-o', 'ConnectTimeout=20', '-o', 'ControlMaster=auto', '-o', `ControlPath=${control}`, '-o', 'ControlPersist=600', '-o', 'IdentitiesOnly=yes', '-F', '/dev/null'];

  let qemuProcess: ChildProcess | undefined;
  let ended: Promise<void> = Promise.resolve();

  const sshEnd = (): void => {
    if (existsSync(control)) spawnSync('/usr/bin/ssh', [...ssh, '-O', 'exit', 'root@127.0.0.1'], { timeout: 5000 });
    rmSync(control, { force: true });
  };

  const machine: Machine = {
    name,
    async run(line, { input, timeout = COMMAND_PATIENCE, allow = false } = {}) {
      if (!qemuProcess) throw new Error(`${name} does not run: ${machine.console().slice(-500)}`);
      const outcome = await program('/usr/bin/ssh', [...ssh, 'root@127.0.0.1', line], { input, timeout });
      if (outcome.code === 0 || allow) return outcome;
      throw new Error(`${name}: ${line}\nended with ${outcome.code}\n${outcome.stdout.slice(-3000)}\n${outcome.stderr.slice(-3000)}`);
    },
    ask: async (line, settings) => (await machine.run(line, settings)).stdout.trim(),
    async send(paths, target) {
      for (const path of paths) {
        const tar = spawnSync('/usr/bin/tar', ['-C', join(path, '..'), '-cf', '-', '--', basename(path)], { maxBuffer: 1 << 30 });
        if (tar.status !== 0) throw new Error(`tar: ${tar.stderr.toString()}`);
        await machine.run(`mkdir -p '${target}' && tar -C '${target}' -xf -`, { input: tar.stdout });
      }
    },
    async fetch(path, target) {
      mkdirSync(target, { recursive: true });
      const outcome = await program('/usr/bin/scp', ['-q', '-r', '-P', String(port), ...ssh.slice(2), `root@127.0.0.1:${path}`, target], { timeout: COMMAND_PATIENCE });
      if (outcome.code !== 0) throw new Error(`scp ${path}: ${outcome.stderr}`);
    },
    async start() {
      if (qemuProcess) return;
      rmSync(control, { force: true });
      const log = openSync(errorFile, 'a');
      // setpriv: QEMU gets SIGKILL when this process dies without having had the time to say anything.
      const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', qemu.system, ...args], { cwd: folder, stdio: ['ignore', log, log], detached: true });
      closeSync(log);
      living.add(child);
      qemuProcess = child;
      ended = new Promise((resolve) => {
        child.on('error', () => resolve());
        child.on('exit', () => {
          living.delete(child);
          if (qemuProcess === child) qemuProcess = undefined;
          resolve();
        });
      });
      for (const end = Date.now() + BOOT_PATIENCE; ; await sleep(250)) {
        if (!qemuProcess) throw new Error(`${name} ended at once: ${readFileSync(errorFile, 'utf8').slice(-1000)}\n${machine.console().slice(-2000)}`);
        const answer = await program('/usr/bin/ssh', [...ssh, 'root@127.0.0.1', 'true'], { timeout: 30_000 });
        if (answer.code === 0) return;
        if (Date.now() > end) throw new Error(`${name} did not answer within ${BOOT_PATIENCE / 1000} s: ${answer.stderr}\n${machine.console().slice(-3000)}`);
      }
    },
    async powerCut() {
      qemuProcess?.kill('SIGKILL');
      await ended;
      sshEnd();
    },
    async shutDown() {
      await machine.run('systemctl --no-block poweroff', { allow: true });
      // With -no-reboot QEMU ends at the guest's power off as well as at its reboot.
      await Promise.race([ended, sleep(120_000, undefined, { ref: false })]);
      if (qemuProcess) {
        const last = machine.console().slice(-2000);
        await machine.powerCut();
        throw new Error(`${name} did not shut down within 120 s:\n${last}`);
      }
      sshEnd();
    },
    async reboot() {
      await machine.shutDown();
      await machine.start();
    },
    console: () => (existsSync(consoleFile) ? readFileSync(consoleFile, 'utf8') : ''),
    async collect(target) {
      mkdirSync(target, { recursive: true });
      for (const file of [consoleFile, errorFile]) if (existsSync(file)) cpSync(file, join(target, basename(file)));
      if (!qemuProcess) return;
      await machine.run('mkdir -p /tmp/logs; journalctl -b --no-pager >/tmp/logs/journal.log; cp /var/log/veld/* /tmp/logs/; dmesg >/tmp/logs/dmesg.log; systemd-cgls >/tmp/logs/cgroups.log; '
        + 'mkdir -p /tmp/logs/run; cp -r /run/veld/ves /tmp/logs/run/', { allow: true });
      await machine.fetch('/tmp/logs', target);
    },
    async destroy() {
      await machine.powerCut();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return machine;
}

/** A port that nobody listens on now. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function program(file: string, args: string[], { input, timeout }: { input?: string | Uint8Array; timeout: number }): Promise<RunOutcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeout);
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
    child.on('error', reject);
    // `exit`: the master connection of ssh stays behind and holds the pipes. Everything is read when a turn of the loop brought nothing new.
    const finish = (code: number | null, before: number): void => {
      setTimeout(() => setImmediate(() => {
        const now = out.length + err.length;
        if (now !== before) {
          finish(code, now);
          return;
        }
        clearTimeout(timer);
        const said = late ? `\n(killed after ${timeout} ms)` : '';
        resolve({ code: code ?? 255, stdout: Buffer.concat(out).toString('utf8'), stderr: Buffer.concat(err).toString('utf8') + said });
      }), 10);
    };
    child.on('exit', (code) => finish(code, -1));
  });
}
