/** Where a new VE is personal: in its upper before anything runs, or, of a spare, in the VE that runs already, before anybody can reach it. */
import { layRows, type GuestRow } from '../../kernel/guest-rows.ts';
import type { ProcessId } from '../../kernel/process.ts';
import type { Personal } from '../../spec/personal.ts';
import type { LayerRef, VeRecord } from '../../store/types.ts';
import type { VeContext } from '../context.ts';
import type { Instance } from './cloud-init.ts';
import { planPersonal } from './plan.ts';
import { layersTree, runningTree } from './tree.ts';

/**
 * Rows for the upper of a VE that stands on these layers; also without a request there are some, where cloud-init is.
 * @throws VeldError `personal.invalid`, `template.no_cloud_init`
 */
export async function personalRows(context: VeContext, ve: VeRecord, layers: readonly LayerRef[], personal: Personal = {}): Promise<GuestRow[]> {
  const tree = await layersTree(context, layers);
  try {
    return await planPersonal(tree, instanceOf(ve), personal);
  } finally {
    tree.close();
  }
}

/** The same for a VE that runs, whose addresses nobody has yet. */
export async function layPersonal(ve: VeRecord, init: ProcessId, personal: Personal): Promise<void> {
  const tree = await runningTree(init, ve.uidBase);
  try {
    await layRows(tree.root, await planPersonal(tree, instanceOf(ve), personal), ve.uidBase);
  } finally {
    tree.close();
  }
}

function instanceOf(ve: VeRecord): Instance {
  return { uuid: ve.uuid, hostname: ve.properties.hostname as string | undefined ?? ve.name, template: ve.template };
}
