/** Lets the network service of a running VE hear of interfaces that are its own to configure by DHCP. */
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { execInVe } from './exec.ts';

/** Milliseconds. The service itself goes on in the background. */
const TIMEOUT = 10_000;

/** The files that say which interfaces these are have been written. Arguments: their names. */
const SCRIPT = `if [ -x /lib/systemd/systemd-networkd ]; then exec systemctl --no-block restart systemd-networkd.service; fi
for name in "$@"; do ifup "$name"; done`;

/** Begin DHCP on the interfaces. A VE that cannot (it is frozen, or has no such service) begins when it boots: that is no error, and logged. */
export async function announceInterfaces(context: VeContext, ve: VeRecord, names: readonly string[]): Promise<void> {
  try {
    const session = await execInVe(context, ve, { command: ['/bin/sh', '-c', SCRIPT, 'sh', ...names] });
    const timer = setTimeout(() => session.kill('SIGKILL'), TIMEOUT);
    for (const output of [session.stdout, session.stderr]) output?.resume();
    session.stdin.end();
    const code = await session.exit.finally(() => clearTimeout(timer));
    if (code !== 0) context.log.warn({ ve: ve.uuid, name: ve.name, code, interfaces: names }, 'the VE did not take up its new interfaces; it will when it boots');
  } catch (error) {
    context.log.warn({ ve: ve.uuid, name: ve.name, err: error, interfaces: names }, 'the VE could not be told of its new interfaces; it will see them when it boots');
  }
}
