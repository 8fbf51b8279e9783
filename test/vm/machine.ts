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
import { basename, join } from 'node:path';
import { after } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CACHE } from '../lib/cache.ts';
import { EMULATOR_BROKE } from '../lib/emulator.ts';
import { findImage } from './image.ts';
import type { Image, Suite } from './image.ts';
import { freePort, program } from './programs.ts';
import type { RunOutcome } from './programs.ts';
import { findQemu } from './qemu.ts';
import type { Qemu } from './qemu.ts';

/** How long a machine may take from power on to an answer by ssh, in milliseconds. */
const BOOT_PATIENCE = 600_000;
/** How long it may take to shut down, in milliseconds. */
const SHUTDOWN_PATIENCE = 300_000;
/** How long a command may take unless said otherwise, in milliseconds. */
const COMMAND_PATIENCE = 300_000;

/** How often a machine is powered on again whose emulator broke down while it booted. */
const BROKEN_BOOTS = 2;
/**
 * No table of MSI-X vectors: with two emulated processors, one that moved a device's memory while the other wrote to it has ended QEMU 10 in the
 * middle of a boot ("msix_table_mmio_write: Assertion `addr + size <= ...' failed").
 */
const PLAIN_INTERRUPTS = 'vectors=0';

/** ssh's status when the connection ends and not the command. */
const CONNECTION_LOST = 255;
/** How long QEMU may take to end after a connection did, in milliseconds. */
const LAST_BREATH = 3000;

/** Processors of a machine. */
const CPUS = Number(process.env.VELD_TEST_VM_CPUS ?? 2);

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
  cpus?: number;
  /** Two NUMA nodes: each half of the memory and of the processors, which must be two. */
  nodes?: boolean;
  /** Its processor, as QEMU names it; default: `qemu64`. */
  cpu?: string;
  /** Bytes per second that its disks give, each: without it the emulated processor is what is short, never the disk. */
  diskRate?: number;
  /** Sockets of the two ends of the wire that joins eth1 to another machine's; see {@link joinedPair}. */
  wire?: { here: string; there: string; mac: string };
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
  /**
   * Make something of the machine reachable from here until it is booted anew.
   * @param target path of a unix socket, or ADDRESS:PORT as the machine sees it
   * @returns path of a unix socket here that leads there
   */
  forward(target: string): Promise<string>;
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
  /** Save the console in a folder, at once. */
  keepConsole(folder: string): void;
  /** Save the console, the journal of all boots, the daemon's log and what the scripts know of VEs in a folder. Boots a machine that is off. */
  collect(folder: string): Promise<void>;
  /** Kill it and remove its disks. */
  destroy(): Promise<void>;
}

const living = new Set<ChildProcess>();
process.on('exit', () => { for (const child of living) child.kill('SIGKILL'); });
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    // Its time is up, or somebody has lost patience: what can be had at once.
    const logs = logFolder();
    for (const machine of machines) if (logs !== undefined) machine.keepConsole(join(logs, machine.name));
    for (const child of living) child.kill('SIGKILL');
    process.exit(1);
  });
}

/** The machines of this file that are not yet destroyed. */
const machines = new Set<Machine>();

/** Where logs of this file's machines are kept, when they are. */
function logFolder(): string | undefined {
  const logs = process.env.VELD_TEST_LOGS;
  return logs === undefined ? undefined : join(logs, basename(process.argv[1] ?? 'test'));
}

/** Boot a machine; it is destroyed after the tests of this file, its logs are kept for a failed one. */
export async function boot(options: MachineOptions): Promise<Machine> {
  const [qemu, image] = await Promise.all([findQemu(), findImage(options.suite)]);
  const machine = makeMachine(options, qemu, image, await freePort());
  machines.add(machine);
  after(async () => {
    const logs = logFolder();
    if (logs !== undefined) await machine.collect(join(logs, machine.name)).catch(() => {});
    await machine.destroy();
    machines.delete(machine);
  });
  await machine.start();
  return machine;
}

/** Boot two machines whose eth1 are joined by a wire. Each may be cut off and booted again without the other. */
export async function joinedPair(one: MachineOptions, other: MachineOptions): Promise<[Machine, Machine]> {
  mkdirSync(join(CACHE, 'vm'), { recursive: true, mode: 0o700 });
  const folder = mkdtempSync(join(CACHE, 'vm', `.wire-${process.pid}-`));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const [a, b] = [join(folder, 'a'), join(folder, 'b')];
  return Promise.all([
    boot({ ...one, name: one.name ?? 'one', wire: { here: a, there: b, mac: '52:54:00:00:00:01' } }),
    boot({ ...other, name: other.name ?? 'two', wire: { here: b, there: a, mac: '52:54:00:00:00:02' } }),
  ]);
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
  const { wire } = options;
  const memory = options.memory ?? 2048;
  const machineId = Buffer.from(name).toString('hex').slice(0, 20).padEnd(32, '7');
  const args = [
    ...qemu.firmware, '-name', `veld-test-${name}`, '-nodefaults', '-display', 'none', '-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', options.cpu ?? 'qemu64', '-smp', String(options.cpus ?? CPUS),
    '-m', String(memory), ...(options.nodes ? [0, 1].flatMap((i) => ['-object', `memory-backend-ram,id=node${i},size=${memory / 2}M`, '-numa', `node,nodeid=${i},cpus=${i},memdev=node${i}`]) : []), '-kernel', image.kernel, '-initrd', image.initrd,
    '-append', `console=ttyS0 root=/dev/vda rw panic=-1 no_timer_check net.ifnames=0 quiet systemd.show_status=no systemd.machine_id=${machineId} systemd.hostname=${name} ${options.append ?? ''}`,
    '-chardev', `file,id=console,path=${consoleFile},append=on`, '-serial', 'chardev:console', '-no-reboot',
    ...disks.flatMap((disk, i) => ['-drive', `file=${disk},if=none,id=disk${i},format=qcow2,cache=unsafe,discard=unmap${options.diskRate === undefined ? '' : `,throttling.bps-total=${options.diskRate}`}`, '-device', `virtio-blk-pci,drive=disk${i},${PLAIN_INTERRUPTS}`]),
    '-device', `virtio-rng-pci,${PLAIN_INTERRUPTS}`,
    '-netdev', `user,id=world,hostfwd=tcp:127.0.0.1:${port}-:22`, '-device', `virtio-net-pci,netdev=world,romfile=,${PLAIN_INTERRUPTS}`,
    ...(wire ? ['-netdev', `dgram,id=wire,local.type=unix,local.path=${wire.here},remote.type=unix,remote.path=${wire.there}`, '-device', `virtio-net-pci,netdev=wire,mac=${wire.mac},romfile=,${PLAIN_INTERRUPTS}`] : []),
  ];
  const control = join(folder, 'ssh');
  const ssh = ['-p', String(port), '-i', image.key, '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR', '-o', 'BatchMode=yes',
    '-o', 'ConnectTimeout=60', '-o', 'ControlMaster=auto', '-o', `ControlPath=${control}`, '-o', 'ControlPersist=7200', '-o', 'IdentitiesOnly=yes', '-F', '/dev/null'];

  let qemuProcess: ChildProcess | undefined;
  let ended: Promise<void> = Promise.resolve();
  /** Whether QEMU itself gave up, which says nothing about what runs in it. */
  let brokeDown = false;
  /** How QEMU ended last: its status or its signal. */
  let ending = '';

  /** Sockets here, by what they lead to. */
  const forwarded = new Map<string, string>();

  const sshEnd = (): void => {
    for (const socket of forwarded.values()) rmSync(socket, { force: true });
    forwarded.clear();
    if (existsSync(control)) spawnSync('/usr/bin/ssh', [...ssh, '-O', 'exit', 'root@127.0.0.1'], { timeout: 5000 });
    rmSync(control, { force: true });
  };

  const powerOn = (): void => {
    rmSync(control, { force: true });
    const log = openSync(errorFile, 'a');
    // setpriv: QEMU gets SIGKILL when this process dies without having had the time to say anything.
    const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', qemu.system, ...args], { cwd: folder, stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    living.add(child);
    qemuProcess = child;
    brokeDown = false;
    ended = new Promise((resolve) => {
      child.on('error', () => resolve());
      child.on('exit', (code, signal) => {
        living.delete(child);
        ending = signal ?? `status ${code}`;
        brokeDown = signal !== null && !child.killed; // of its own, or the kernel had no memory for it
        if (qemuProcess === child) qemuProcess = undefined;
        if (brokeDown) process.stdout.write(`# ${name}: ${EMULATOR_BROKE}: ${ending}; ${readFileSync(errorFile, 'utf8').trimEnd().slice(-300)}\n`);
        resolve();
      });
    });
  };

  /** Settles when it answers by ssh. */
  const answering = async (): Promise<void> => {
    for (const end = Date.now() + BOOT_PATIENCE; ; await sleep(250)) {
      if (!qemuProcess) throw new Error(`${name} ended at once: ${readFileSync(errorFile, 'utf8').slice(-1000)}\n${machine.console().slice(-2000)}`);
      const answer = await program('/usr/bin/ssh', [...ssh, 'root@127.0.0.1', 'true'], { timeout: 90_000 });
      if (answer.code === 0) return;
      if (Date.now() > end) throw new Error(`${name} did not answer within ${BOOT_PATIENCE / 1000} s: ${answer.stderr}\n${machine.console().slice(-3000)}`);
    }
  };

  /** What can be known of a connection that ended in the middle of a command: the end of QEMU, of the kernel in it, or of the connection alone. */
  const whyLost = async (): Promise<string> => {
    await Promise.race([ended, sleep(LAST_BREATH, undefined, { ref: false })]);
    const last = `\nconsole:\n${machine.console().slice(-2000)}`;
    if (!qemuProcess) return `\nQEMU ended with ${ending}:\n${readFileSync(errorFile, 'utf8').slice(-1000)}${last}`;
    const journal = await program('/usr/bin/ssh', [...ssh, 'root@127.0.0.1', 'uptime; journalctl --no-pager -n 40; dmesg | tail -n 20'], { timeout: 90_000 });
    return `\nQEMU runs; ${journal.code === 0 ? 'a new connection was made' : 'no connection can be made'}:\n${journal.stdout}${journal.stderr}${last}`;
  };

  const machine: Machine = {
    name,
    async run(line, { input, timeout = COMMAND_PATIENCE, allow = false } = {}) {
      if (!qemuProcess) throw new Error(`${name} does not run: ${machine.console().slice(-500)}`);
      const outcome = await program('/usr/bin/ssh', [...ssh, 'root@127.0.0.1', line], { input, timeout });
      if (outcome.code === 0 || allow) return outcome;
      if (outcome.code === CONNECTION_LOST) outcome.stderr += await whyLost();
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
    async forward(target) {
      const known = forwarded.get(target);
      if (known !== undefined) return known;
      const socket = join(folder, `forward${forwarded.size}.${Date.now()}`);
      const outcome = await program('/usr/bin/ssh', [...ssh, '-O', 'forward', '-L', `${socket}:${target}`, 'root@127.0.0.1'], { timeout: COMMAND_PATIENCE });
      if (outcome.code !== 0) throw new Error(`${name}: ${target} could not be forwarded: ${outcome.stderr}`);
      forwarded.set(target, socket);
      return socket;
    },
    async start() {
      if (qemuProcess) return;
      for (let tries = 0; ; tries++) {
        powerOn();
        try {
          await answering();
          return;
        } catch (error) {
          if (!brokeDown || tries === BROKEN_BOOTS) throw error;
          process.stdout.write(`# ${name} is started again\n`);
        }
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
      await Promise.race([ended, sleep(SHUTDOWN_PATIENCE, undefined, { ref: false })]);
      if (qemuProcess) {
        const last = machine.console().slice(-2000);
        await machine.powerCut();
        throw new Error(`${name} did not shut down within ${SHUTDOWN_PATIENCE / 1000} s:\n${last}`);
      }
      sshEnd();
    },
    async reboot() {
      await machine.shutDown();
      await machine.start();
    },
    console: () => (existsSync(consoleFile) ? readFileSync(consoleFile, 'utf8') : ''),
    keepConsole(target) {
      mkdirSync(target, { recursive: true });
      for (const file of [consoleFile, errorFile]) if (existsSync(file)) cpSync(file, join(target, basename(file)));
    },
    async collect(target) {
      machine.keepConsole(target);
      // The journal of a machine whose power was cut is on its disk.
      await machine.start();
      await machine.run('mkdir -p /tmp/logs; journalctl --no-pager >/tmp/logs/journal.log; cp /var/log/veld/* /tmp/logs/; dmesg >/tmp/logs/dmesg.log; systemd-cgls >/tmp/logs/cgroups.log; '
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
