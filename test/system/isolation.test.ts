/**
 * Isolation: what root of a VE can do to the host and to other VEs. Every attack is tried inside, where its guard must stop it for the reason
 * that is named, and where that guard is off, where it must succeed. See docs/explanation/threat-model.md.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import type { Attack } from './isolation/attack.ts';
import { fileAttacks } from './isolation/files.ts';
import { groupAttacks, ipcAttacks } from './isolation/groups.ts';
import { hostAttacks } from './isolation/host.ts';
import { kernelAttacks } from './isolation/kernel.ts';
import { buildLab } from './isolation/lab.ts';
import { networkAttacks } from './isolation/network.ts';
import { until } from '../lib/wait.ts';
import { processAttacks } from './isolation/processes.ts';

const lab = await buildLab();

const suites: [string, Attack[]][] = [
  ['processes and namespaces', processAttacks], ['files, mounts and devices', fileAttacks], ['system calls', kernelAttacks],
  ['control groups and limits', groupAttacks], ['IPC and keys', ipcAttacks], ['network', networkAttacks], ['the host\'s own hands and users', hostAttacks],
];

for (const [title, attacks] of suites) {
  describe(`not possible: ${title}`, () => {
    for (const attack of attacks) {
      test(`${attack.name} (${attack.guard})`, async (t) => {
        const inside = await attack.inside(lab);
        assert.notEqual(inside.state, 'reached', `inside: ${inside.said}`);
        const off = await attack.off(lab);
        if (off.state === 'absent') {
          t.skip(`there is nothing to attack on this kernel: ${off.said}`);
          return;
        }
        assert.equal(inside.state, 'refused', inside.said);
        assert.match(inside.said, attack.refusal, 'stopped for another reason than the guard');
        assert.equal(off.state, 'reached', `without its guard it fails as well: ${off.said}`);
      });
    }
  });
}

test('no attack has harmed the neighbour or the host\'s process', async () => {
  assert.equal(await lab.veld.booted('neighbour'), 'running');
  assert.equal((await lab.veld.show('neighbour')).pid, lab.neighbour.pid);
  assert.equal(lab.victim.exitCode, null);
});

test('every process of a VE is held as the attacks were: filter, capabilities, ids', async () => {
  const { stdout } = await lab.veld.exec('attacker', 'sh', '-c', 'grep -HE "^(Seccomp|CapBnd|CapEff|Uid|Gid):" /proc/[0-9]*/status');
  const bound = BigInt(`0x${/^\/proc\/1\/status:CapBnd:\s*(\w+)/m.exec(stdout)?.[1]}`);
  let seen = 0;
  for (const [, name, value] of stdout.matchAll(/^\/proc\/\d+\/status:(\w+):\s*(.*)$/gm)) {
    if (name === 'Seccomp') {
      assert.equal(value, '2');
      seen += 1;
    } else if (name?.startsWith('Cap')) assert.equal(BigInt(`0x${value}`) & ~bound, 0n, `${name} ${value}`);
    else assert.ok(!value?.split(/\s+/).includes('65534'), `an id of the host: ${value}`);
  }
  assert.ok(seen >= 4, stdout);
  for (const name of [16, 17, 24, 25]) assert.equal(bound & (1n << BigInt(name)), 0n, `capability ${name}`); // SYS_MODULE, SYS_RAWIO, SYS_RESOURCE, SYS_TIME
  // And as the host sees them: ids of the VE's range, and of no other.
  const { uidBase, pid } = lab.attacker;
  const ids = /^Uid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  assert.equal(Number(ids), uidBase);
  assert.ok(Math.abs(uidBase - lab.neighbour.uidBase) >= 65536);
});

test('reboot(2) inside ends that VE and nothing else', async () => {
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8');
  const before = await lab.veld.show('loose');
  await lab.veld.exec('loose', 'perl', '-e', `syscall(${process.arch === 'arm64' ? 142 : 169}, 0xfee1dead, 672274793, 0x1234567, 0)`).catch(() => {}); // its end may come before its answer
  await until('the VE to boot again', async () => {
    const { pid } = await lab.veld.show('loose');
    return pid !== null && pid !== before.pid;
  });
  assert.equal(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'), bootId);
  assert.equal((await lab.veld.show('attacker')).pid, lab.attacker.pid);
});
