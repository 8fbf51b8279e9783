/** The part of the manager that is about templates made of VEs, and their versions. */
import type { OperationRecord, TemplateRecord, VeRecord } from '../store/types.ts';
import type { Task } from '../ops/types.ts';
import { checkTemplateName } from '../spec/names.ts';
import { patternOf } from '../templates/cleaning.ts';
import { findVe, type VeContext } from './context.ts';
import { checkCommit, commitVe, type CommitRequest } from './template-commit.ts';
import { templateDiff, type TemplateDiff } from './template-diff.ts';
import { findTemplate } from './template-verbs.ts';
import { findVersion, rollBackTemplate, templateHistory, type VersionView } from './template-versions.ts';

export interface TemplateVersionManager {
  /** Make a template of a VE that is at rest; its result is `Committed` of template-commit.ts. */
  commit(key: string, request: CommitRequest, requestId: string | null): OperationRecord;
  /** Versions of a name, newest first. Throws `template.not_found`. */
  history(key: string): VersionView[];
  /** What the second has that the first has not, and the other way round. */
  templateDiff(from: string, to: string, files: boolean): Promise<TemplateDiff>;
  /** Give a name to an earlier version. @param version default: the one before */
  rollBackTemplate(key: string, version: string | undefined, requestId: string | null): OperationRecord;
}

export function templateVersionManager(context: VeContext, begin: <T>(kind: string, ve: VeRecord, requestId: string | null, work: (task: Task) => Promise<T>) => OperationRecord, uses: (template: TemplateRecord) => number): TemplateVersionManager {
  const { operations, store } = context;
  return {
    commit(key, request, requestId) {
      const ve = findVe(store, key);
      checkTemplateName(request.name);
      if (request.keep?.length) patternOf(request.keep);
      checkCommit(context, ve, request);
      return begin('template-commit', ve, requestId, (task) => commitVe(context, ve.uuid, request, task));
    },
    history: (key) => templateHistory(context, key, uses),
    templateDiff: async (from, to, files) => templateDiff(context, findTemplate(context, from), findTemplate(context, to), files),
    rollBackTemplate(key, version, requestId) {
      findVersion(context, key, version);
      return operations.start({ kind: 'template-roll-back', ve: null, requestId }, async (task) => rollBackTemplate(context, key, version, task));
    },
  };
}
