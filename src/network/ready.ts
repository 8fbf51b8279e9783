/** Whether the host has now what a VE's links need. */
import { VeldError } from '../lib/errors.ts';
import { bridgeMtu, linkExists } from '../kernel/links.ts';
import type { Interface } from './interfaces.ts';

/** See NetworkManager.ready. */
export function checkReady(interfaces: readonly Interface[]): void {
  for (const { name, bridge, mtu } of interfaces) {
    if (bridge === undefined) continue;
    const most = bridgeMtu(bridge);
    if (most === undefined) {
      throw new VeldError('network.no_bridge', linkExists(bridge) ? `The link ${bridge}, to which ${name} shall be connected, is no bridge.` : `The bridge ${bridge}, to which ${name} shall be connected, does not exist on this host.`,
        { details: { bridge, interface: name } });
    }
    // The bridge would drop what is larger, and tell nobody.
    if (mtu !== undefined && mtu > most) {
      throw new VeldError('network.no_bridge', `The interface ${name} shall have an MTU of ${mtu}, but its bridge ${bridge} carries ${most} bytes.`,
        { hint: `Give ${name} no larger MTU, or the bridge and all its ports a larger one (ip link set ${bridge} mtu ${mtu}).`, details: { bridge, interface: name, most } });
    }
  }
}
