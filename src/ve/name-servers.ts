/** When the resolver that VEs are told of becomes another one, VEs must be told at their next boot. */
import type { NameService } from '../network/resolver.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { Store } from '../store/types.ts';
import { updateVe } from './context.ts';

const LAST = 'network.nameServers';

/** Compare with what was so when this was last asked, and mark the VEs whose files are to be written anew. */
export function nameServersChanged(store: Store, names: Pick<NameService, 'addresses' | 'domain'>): void {
  const now = { domain: names.domain, addresses: names.addresses() };
  if (JSON.stringify(store.getMeta(LAST)) === JSON.stringify(now)) return;
  store.transaction(() => {
    for (const ve of store.listVes()) if (resolveProperties(ve.properties)['network.dns'] === null) updateVe(store, ve.uuid, { guestDirty: true });
    store.setMeta(LAST, now);
  });
}
