/** What a VE runs as pid 1: the init of its system, or Veld's own with the one command of an application VE. */
import { withBaseline } from '../kernel/baseline.ts';
import type { Properties } from '../spec/types.ts';
import { VE_CAPABILITIES } from './capabilities.ts';
import type { GuestUser } from './guest-users.ts';
import { COMMAND_INIT } from './inits.ts';

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Fields of `process` in the OCI configuration. @param user whom a command runs as; an init is always root @param baseline what they are told that the processor can do */
export function bootProcess(uuid: string, properties: Properties, user: GuestUser, baseline: readonly string[] | null = null): object {
  const command = properties['boot.command'];
  if (command === null) return { args: ['/sbin/init'], cwd: '/', user: { uid: 0, gid: 0 }, env: lines(withBaseline({ TERM: 'linux', ...common(uuid) }, baseline)), capabilities: capabilities(true) };
  return {
    args: [COMMAND_INIT, '--', ...command],
    cwd: properties['boot.cwd'],
    user: { uid: user.uid, gid: user.gid, additionalGids: user.groups },
    // Nobody looks at its console through a terminal: colours would only stand in the log.
    env: lines(withBaseline({ TERM: 'dumb', HOME: user.home, USER: user.name, LOGNAME: user.name, SHELL: user.shell, ...common(uuid), ...variables(properties['boot.env']) }, baseline)),
    capabilities: capabilities(user.uid === 0),
  };
}

/**
 * `container` is how distributions know (systemd-detect-virt, ConditionVirtualization): `lxc` is the value that all of them treat as a
 * full system; `container_uuid` becomes the machine-id of a template whose own is empty. The pressure watches of systemd >= 254
 * cannot be restored from a checkpoint and are switched off.
 */
function common(uuid: string): Record<string, string> {
  return { PATH, container: 'lxc', container_uuid: uuid, MEMORY_PRESSURE_WATCH: '/dev/null', CPU_PRESSURE_WATCH: '/dev/null', IO_PRESSURE_WATCH: '/dev/null' };
}

/** `NAME=VALUE` each; of a name given twice the last counts. */
function variables(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
}

function lines(environment: Record<string, string>): string[] {
  return Object.entries(environment).map(([name, value]) => `${name}=${value}`);
}

function capabilities(root: boolean): Record<string, readonly string[]> {
  return { bounding: VE_CAPABILITIES, effective: root ? VE_CAPABILITIES : [], permitted: root ? VE_CAPABILITIES : [] };
}
