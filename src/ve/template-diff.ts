/** `template diff`: what one template has that another has not. */
import { differences, type Difference } from '../storage/differences.ts';
import type { TemplateRecord } from '../store/types.ts';
import { comparePackages, packagesOf, type PackageChanges, type Packages } from '../templates/packages.ts';
import type { VeContext } from './context.ts';
import { treeOf } from './layers.ts';

export interface TemplateDiff {
  from: string;
  to: string;
  /** Null: one of both has no database of packages that can be read, or they are of two package managers. */
  packages: (PackageChanges & { manager: Packages['manager'] }) | null;
  /** By path; absent when they were not asked for. */
  files?: Difference[];
}

/**
 * Compare two templates.
 * @param files also each file that differs: by type, size and time, where they do not share its layer
 * @throws VeldError `storage.failed`
 */
export async function templateDiff(context: VeContext, from: TemplateRecord, to: TemplateRecord, files: boolean): Promise<TemplateDiff> {
  const [before, now] = [treeOf(context, from), treeOf(context, to)];
  const [old, here] = [await packagesOf(before), await packagesOf(now)];
  return {
    from: from.name, to: to.name,
    packages: old && here && old.manager === here.manager ? { manager: old.manager, ...comparePackages(old.versions, here.versions) } : null,
    ...files && { files: await differences(before, now) },
  };
}
