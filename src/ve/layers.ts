/** Layers that nothing stands on any more. */
import type { LayerRef, TemplateRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';

/** The tree of a template: its layers' folders, lowest first. */
export function treeOf({ volumes }: { volumes: Pick<VeContext['volumes'], 'layerPath'> }, { layers }: Pick<TemplateRecord, 'layers'>): readonly string[] {
  return layers.map(({ id }) => volumes.layerPath(id));
}

/** Remove those of the layers that no VE, template, snapshot or warm image names. Layers of templates go with their template. */
export async function dropUnusedLayers({ store, volumes }: Pick<VeContext, 'store' | 'volumes'>, refs: readonly LayerRef[]): Promise<void> {
  const unused = store.transaction(() => refs.filter(({ id }) => {
    if (!store.layer(id) || store.layerUses(id) > 0) return false;
    store.deleteLayer(id);
    return true;
  }));
  for (const { id } of unused) await volumes.dropLayer(id);
}
