/** Templates that this node publishes. */
import type { OperationManager } from '../ops/operations.ts';
import type { OperationRecord } from '../store/types.ts';
import { nameProduct } from '../templates/publishing/products.ts';
import type { ImageServerState, PublishedProduct, PublishOptions } from '../templates/publishing/types.ts';
import type { VeContext } from './context.ts';
import { treeOf } from './layers.ts';
import { findTemplate } from './template-verbs.ts';

export interface PublishingManager {
  /** By product. @throws VeldError `published.damaged` */
  published(): PublishedProduct[];
  imageServer(): ImageServerState;
  /**
   * Offer a template to others, as the newest version of its product; its result is a `Publication`. What is published are files of their own: that the template goes, or changes its name, means nothing to them.
   * @throws VeldError `template.not_found`, `published.name_invalid`
   */
  publishTemplate(key: string, options: PublishOptions, requestId: string | null): OperationRecord;
  /** Take a product away, or one version of it. @param name see Publisher.unpublish */
  unpublish(name: string, version: string | undefined, requestId: string | null): OperationRecord;
}

export function publishingManager(context: VeContext, operations: Pick<OperationManager, 'start'>): PublishingManager {
  const { published, events } = context;
  return {
    published: () => published.list(),
    imageServer: () => published.state(),
    publishTemplate(key, options, requestId) {
      const template = findTemplate(context, key);
      nameProduct(template, options.as); // said at once
      return operations.start({ kind: 'template-publish', ve: null, requestId }, async (task) => {
        const publication = await published.publish({ template, path: treeOf(context, template), check: () => void findTemplate(context, template.fingerprint) }, options, task);
        if (publication.added) events.emit('template.published', { data: { name: template.name, fingerprint: template.fingerprint, product: publication.product, serial: publication.serial } });
        return publication;
      });
    },
    unpublish(name, version, requestId) {
      return operations.start({ kind: 'template-unpublish', ve: null, requestId }, async (task) => {
        const gone = await published.unpublish(name, version, task);
        events.emit('template.unpublished', { data: gone });
        return gone;
      });
    },
  };
}
