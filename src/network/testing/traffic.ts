/** For tests of what is counted: figures of all VEs of a lab, and by how much they grow. */
import type { ClassTraffic, NetworkManager, Traffic } from '../types.ts';
import type { Lab } from './lab.ts';

/** Bytes of headers: IPv4 and UDP, IPv6 and UDP. */
export const [UDP4, UDP6] = [28, 48];
export const NONE: Traffic = { rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0 };

export const texts = (count: number, bytes: number): string[] => Array.from({ length: count }, () => 'x'.repeat(bytes));
export const sent = (count: number, bytes: number): Traffic => ({ ...NONE, txBytes: count * bytes, txPackets: count });
export const received = (count: number, bytes: number): Traffic => ({ ...NONE, rxBytes: count * bytes, rxPackets: count });
export const both = (one: Traffic, other: Traffic): Traffic => ({
  rxBytes: one.rxBytes + other.rxBytes, txBytes: one.txBytes + other.txBytes, rxPackets: one.rxPackets + other.rxPackets, txPackets: one.txPackets + other.txPackets,
});

/** By number. */
export async function all(lab: Lab, network: NetworkManager = lab.network): Promise<Map<number, ClassTraffic>> {
  const of = await network.accounting.read();
  return new Map(lab.ves.map((ve) => [ve.number, of(ve)]));
}

/** The same when nothing passes any more. */
export async function quiet(lab: Lab, network: NetworkManager = lab.network): Promise<Map<number, ClassTraffic>> {
  for (let before = await all(lab, network); ;) {
    await new Promise((resolve) => { setTimeout(resolve, 100); });
    const now = await all(lab, network);
    if (JSON.stringify([...now]) === JSON.stringify([...before])) return now;
    before = now;
  }
}

/** By how much each figure grows. */
export async function growth(lab: Lab, work: () => Promise<unknown>, network: NetworkManager = lab.network): Promise<Record<number, ClassTraffic>> {
  const start = await all(lab, network);
  await work();
  return Object.fromEntries([...await quiet(lab, network)].map(([number, classes]) => [number, Object.fromEntries(Object.entries(classes).map(([name, traffic]) => {
    const before = start.get(number)?.[name] ?? NONE;
    const grown = (figure: keyof Traffic): number => traffic[figure] - before[figure];
    return [name, { rxBytes: grown('rxBytes'), txBytes: grown('txBytes'), rxPackets: grown('rxPackets'), txPackets: grown('txPackets') }];
  }))]));
}
