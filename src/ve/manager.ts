/** The manager of VEs: turns each wish into an operation on a locked VE. What the verbs do is in their own files. */
import { recipient } from '../lib/sealed-file.ts';
import { engineByFingerprint } from '../kernel/engine.ts';
import { VeldError } from '../lib/errors.ts';
import type { OperationRecord, PoolRecord, TemplateRecord, VeRecord } from '../store/types.ts';
import type { Task } from '../ops/types.ts';
import { checkName, checkTemplateName } from '../spec/names.ts';
import { checkPersonal, mustBoot } from '../spec/personal.ts';
import { DEFAULT_POOL } from '../spec/disk-properties.ts';
import { parseProperties, resolveProperties } from '../spec/properties.ts';
import { veBeancounters } from './beancounters.ts';
import { veConnections, veTraffic } from './traffic.ts';
import { backupManager } from './backup/manager.ts';
import { imageManager } from './images.ts';
import { publishingManager } from './published.ts';
import { checkArchiveFile, checkpointVe, restoreVe } from './archive.ts';
import { attachConsole } from './console.ts';
import { findVe, reload, type VeContext } from './context.ts';
import { readFromVe, writeToVe } from './copy.ts';
import { cloneVe, inherited } from './clone.ts';
import { createVe, forgetRecord, reserveVe } from './create.ts';
import { checkDestroyable, destroyVe, removeVe } from './destroy.ts';
import { deployVe } from './deploy.ts';
import { dropUnusedEngines } from './engines.ts';
import { execInVe } from './exec.ts';
import { checkExportFile, exportVe, importFile } from './export/file.ts';
import { watchExits } from './exits.ts';
import { followConsole } from './follow-log.ts';
import { checkRunning, freezeVe, thawVe } from './freeze.ts';
import { consoleLog } from './logs.ts';
import { checkPool, checkPoolUnused, createPool, deletePool, findPool, viewPools } from './pool-verbs.ts';
import { quotaReport, setUserQuota } from './quota.ts';
import { recipeManager } from './recipes/manager.ts';
import { recover } from './recovery.ts';
import { restartVe } from './restart.ts';
import { checkResumable, resumeVe } from './resume.ts';
import { askRoom, checkRoom, keepRoom } from './room.ts';
import { readRunState } from './run-folder.ts';
import { checkChanges, checkNewName, checkRepositoryOf, renameVe, setProperties } from './set.ts';
import { openShell } from './shell.ts';
import { checkKeepable, checkSnapshotName, createSnapshot, deleteSnapshot, findSnapshot, rollBack } from './snapshot.ts';
import { snapshotDiff } from './snapshot-diff.ts';
import { createSpares } from './spares.ts';
import { checkNotGranted, checkStopped, startVe } from './start.ts';
import { checkStoppable, stopVe } from './stop.ts';
import { checkSuspendable, obstaclesOf, suspendVe } from './suspend.ts';
import { deleteTemplate, findTemplate, makeTemplate, viewTemplate } from './template-verbs.ts';
import { templateVersionManager } from './template-version-manager.ts';
import type { TemplateView, VeManager } from './types.ts';
import { sampleUsage, veProcesses } from './usage.ts';
import { detailVe, detailVes, viewVe, viewVes } from './view.ts';
import { suitsWarmImage } from './warm-image.ts';
import { withHost, type WithHost } from './with-host.ts';

export interface RunningVeManager extends VeManager, WithHost {
  /**
   * Begin an operation on a VE, as the verbs here do: for floors above.
   * @throws VeldError `ve.busy`; `migration.undecided` for a VE of which it is not known whose it is, and another kind than `migrate-settle`
   */
  begin<T>(kind: string, ve: VeRecord, requestId: string | null, work: (task: Task) => Promise<T>): OperationRecord;
  /** Adopt what runs and mend what was interrupted; before anything else. @param sameBoot whether runDir belongs to this boot */
  adopt(sameBoot: boolean): Promise<void>;
  close(): Promise<void>;
}

/** Make the manager. */
export function createVeManager(context: VeContext): RunningVeManager {
  const { store, operations, log } = context;
  const exits = watchExits(context);

  const begin = <T>(kind: string, ve: VeRecord, requestId: string | null, work: (task: Task) => Promise<T>): OperationRecord => {
    if (kind !== 'migrate-settle') checkNotGranted(context, ve);
    return operations.start({ kind, ve: ve.uuid, requestId }, async (task) => {
      try {
        return await work(task);
      } finally {
        exits.look(ve.number); // so that a later init is known to be another one
        if (kind !== 'create' && kind !== 'set') dropUnusedEngines(context);
      }
    });
  };

  /** Work that an earlier daemon began with a VE which ran. */
  const kept = (ve: VeRecord, work: (task: Task) => Promise<void>) => async (task: Task): Promise<void> => {
    keepRoom(context, ve, task);
    await work(task);
  };

  const spares = createSpares(context);
  const beingMade = new Set<PoolRecord>();
  const viewed = (template: TemplateRecord): TemplateView => viewTemplate(context, template, spares.count(template.fingerprint));

  const manager: RunningVeManager = {
    list: () => viewVes(context),
    listDetails: () => detailVes(context),
    show: (key) => detailVe(context, findVe(store, key)),
    usage: () => sampleUsage(context),
    processes: async (key) => veProcesses(context, findVe(store, key)),
    traffic: async (key) => veTraffic(context, key),
    connections: async (key) => veConnections(context, key),
    beancounters: async (key) => veBeancounters(context, findVe(store, key)),
    view: (key) => viewVe(context, findVe(store, key)),

    create(request, requestId) {
      if (request.start) context.engine(); // refuse before anything is made
      checkRoom(context, { name: checkName(request.name), properties: parseProperties(request.properties ?? {}) });
      const wanted = resolveProperties(parseProperties(request.properties ?? {}));
      checkRepositoryOf(context, wanted as unknown as Record<string, unknown>);
      const { personal } = request;
      if (personal) checkPersonal(personal);
      // Spares lie on the default pool.
      const spare = request.start && !mustBoot(personal) && wanted['disk.pool'] === DEFAULT_POOL && suitsWarmImage(wanted) ? spares.peek(store.findTemplate(request.template)?.fingerprint ?? '') : undefined;
      const ve = reserveVe(context, request, undefined, spare);
      if (spare) spares.claim(spare.uuid);
      try {
        return begin('create', ve, requestId, async (task) => {
          if (request.start) await deployVe(context, ve, task, { spare, personal }).catch((error: unknown) => {
            if (spare) spares.prepare(ve.template); // it is spent, whatever came of it
            throw asCreateError(error);
          });
          else {
            askRoom(context, ve, task); // whoever makes it wants it to run
            await createVe(context, ve, task, personal);
          }
          task.commit();
          if (request.start) spares.prepare(ve.template);
          context.events.emit('ve.created', { ve: ve.uuid, data: { name: ve.name, number: ve.number } });
          return viewVe(context, reload(store, ve.uuid));
        });
      } catch (error) {
        if (spare) void removeVe(context, ve).catch((failure: unknown) => log.error({ ve: ve.uuid, err: failure }, 'a spare VE could not be removed; the next daemon tries again'));
        else forgetRecord(context, ve.uuid);
        throw error;
      }
    },

    start(key, { discardState }, requestId) {
      const ve = findVe(store, key);
      context.engine();
      checkStopped(context, ve, discardState);
      checkRoom(context, ve);
      return begin('start', ve, requestId, (task) => startVe(context, ve.uuid, task, discardState));
    },

    suspend(key, requestId) {
      const ve = findVe(store, key);
      context.engine();
      checkSuspendable(context, ve);
      return begin('suspend', ve, requestId, (task) => suspendVe(context, ve.uuid, task));
    },

    resume(key, requestId) {
      const ve = findVe(store, key);
      checkResumable(context, ve);
      checkRoom(context, ve);
      return begin('resume', ve, requestId, (task) => resumeVe(context, ve.uuid, task));
    },

    clone(key, request, requestId) {
      const model = findVe(store, key);
      const from = request.snapshot === undefined ? undefined : findSnapshot(context, model, request.snapshot);
      if (!from) checkKeepable(context, model, request.live === true);
      else if (request.live === true) {
        if (from.engine === null) throw new VeldError('checkpoint.unusable', `The snapshot ${from.name} of ${model.name} has no processes.`, { hint: 'Leave --live out.' });
        engineByFingerprint(context.settings.stateDir, from.engine);
      }
      const properties = { ...inherited(model.properties), ...request.properties };
      checkRoom(context, { name: checkName(request.name), properties: parseProperties(properties) });
      const clone = reserveVe(context, { name: request.name, template: model.template, properties }, from?.layers ?? model.layers);
      try {
        return begin('clone', model, requestId, async (task) => {
          await cloneVe(context, model.uuid, clone, request.live === true, task, from);
          exits.look(clone.number);
          return viewVe(context, reload(store, clone.uuid));
        });
      } catch (error) {
        forgetRecord(context, clone.uuid);
        throw error;
      }
    },

    checkpoint(key, request, requestId) {
      const ve = findVe(store, key);
      context.engine();
      checkArchiveFile(request.file);
      if (request.encrypt !== undefined) recipient(request.encrypt);
      if (!ve.suspended) checkSuspendable(context, ve);
      return begin('checkpoint', ve, requestId, (task) => checkpointVe(context, ve.uuid, request, task));
    },

    restore(request, requestId) {
      context.engine();
      checkArchiveFile(request.file);
      if (request.identity !== undefined) checkArchiveFile(request.identity);
      if (request.name !== undefined) checkNewName(context, { name: '' } as VeRecord, request.name);
      return operations.start({ kind: 'restore', ve: null, requestId }, async (task) => {
        const ve = await restoreVe(context, request, task);
        exits.look(ve.number);
        return viewVe(context, ve);
      });
    },

    export(key, request, requestId) {
      const ve = findVe(store, key);
      checkExportFile(request.file);
      if (request.encrypt !== undefined) recipient(request.encrypt);
      return begin('export', ve, requestId, (task) => exportVe(context, ve.uuid, request, task));
    },

    import(request, requestId) {
      checkExportFile(request.file);
      if (request.identity !== undefined) checkExportFile(request.identity);
      if (request.name !== undefined) checkNewName(context, { name: '' } as VeRecord, request.name);
      return operations.start({ kind: 'import', ve: null, requestId }, async (task) => viewVe(context, await importFile(context, request, task)));
    },

    snapshots: (key) => store.listSnapshots(findVe(store, key).uuid),

    createSnapshot(key, { name, live, description = '' }, requestId) {
      const ve = findVe(store, key);
      checkSnapshotName(context, ve, name);
      checkKeepable(context, ve, live === true);
      return begin('snapshot', ve, requestId, (task) => createSnapshot(context, ve.uuid, name, live === true, task, true, description));
    },

    deleteSnapshot(key, name, requestId) {
      const ve = findVe(store, key);
      const snapshot = findSnapshot(context, ve, name);
      return begin('snapshot-delete', ve, requestId, () => deleteSnapshot(context, snapshot));
    },

    rollBack(key, name, requestId) {
      const ve = findVe(store, key);
      const snapshot = findSnapshot(context, ve, name);
      if (snapshot.engine !== null) {
        engineByFingerprint(context.settings.stateDir, snapshot.engine);
        if (!readRunState(context.settings, ve.number).init) checkRoom(context, ve);
      }
      return begin('roll-back', ve, requestId, (task) => rollBack(context, ve.uuid, snapshot, task));
    },

    async snapshotDiff(key, name, to) {
      const ve = findVe(store, key);
      return snapshotDiff(context, ve, findSnapshot(context, ve, name), to === undefined ? undefined : findSnapshot(context, ve, to));
    },

    obstacles: async (key) => obstaclesOf(context, findVe(store, key)),

    stop(key, options, requestId) {
      const ve = findVe(store, key);
      checkStoppable(context, ve, options);
      return begin('stop', ve, requestId, (task) => stopVe(context, ve.uuid, options, task));
    },

    restart(key, options, requestId) {
      const ve = findVe(store, key);
      context.engine();
      if (readRunState(context.settings, ve.number).init) checkStoppable(context, ve, options);
      return begin('restart', ve, requestId, (task) => restartVe(context, ve.uuid, options, task));
    },

    freeze(key, requestId) {
      const ve = findVe(store, key);
      checkRunning(context, ve);
      return begin('freeze', ve, requestId, () => freezeVe(context, ve.uuid));
    },

    thaw(key, requestId) {
      const ve = findVe(store, key);
      checkRunning(context, ve);
      return begin('thaw', ve, requestId, () => thawVe(context, ve.uuid));
    },

    destroy(key, options, requestId) {
      const ve = findVe(store, key, true);
      checkDestroyable(context, ve, options.force === true);
      return begin('destroy', ve, requestId, (task) => destroyVe(context, ve.uuid, options.force === true, task));
    },

    rename(key, name, requestId) {
      const ve = findVe(store, key);
      checkNewName(context, ve, name);
      return begin('rename', ve, requestId, (task) => renameVe(context, ve.uuid, name, task));
    },

    set(key, changes, options, requestId) {
      const ve = findVe(store, key);
      const parsed = checkChanges(context, ve, changes, options);
      return begin('set', ve, requestId, (task) => setProperties(context, ve.uuid, parsed, task));
    },

    exec: (key, request) => execInVe(context, findVe(store, key), request),
    shell: (key, request) => openShell(context, findVe(store, key), request),
    console: async (key, request) => attachConsole(context, findVe(store, key), request),
    followLogs: (key, options) => followConsole(context.settings, findVe(store, key).uuid, options),
    readFiles: async (key, request) => readFromVe(context, findVe(store, key), request),
    writeFiles: async (key, request) => writeToVe(context, findVe(store, key), request),
    logs: (key, { tail }) => consoleLog(context.settings, findVe(store, key).uuid, tail),

    quota: async (key) => quotaReport(context, findVe(store, key)),
    async setQuota(key, kind, who, changes) {
      const ve = findVe(store, key);
      const busy = operations.isBusy(ve.uuid);
      if (busy) throw new VeldError('ve.busy', `${ve.name} is busy: ${busy.kind}.`);
      return setUserQuota(context, ve, kind, who, changes);
    },

    ...imageManager(context, operations, spares, viewed),
    ...templateVersionManager(context, begin, (template) => viewed(template).uses),
    ...publishingManager(context, operations),
    ...recipeManager(context, operations, spares, viewed),
    ...backupManager(context, begin, (ve) => viewVe(context, ve)),

    pools: () => viewPools(context),
    pool: (name) => findPool(context, name),
    createPool(request, requestId) {
      const pool = checkPool(context, request);
      // Two at once must not be the same: what is undone of the one would be the other's.
      const same = [...beingMade].find(({ name, path }) => name === pool.name || path === pool.path);
      if (same) throw new VeldError('pool.name_taken', `The pool ${same.name} is being made in ${same.path}.`);
      beingMade.add(pool);
      try {
        return operations.start({ kind: 'pool-create', ve: null, requestId }, (task) => createPool(context, pool, task, request.imageSize).finally(() => beingMade.delete(pool)));
      } catch (error) {
        beingMade.delete(pool);
        throw error;
      }
    },
    deletePool(name, requestId) {
      checkPoolUnused(context, name);
      return operations.start({ kind: 'pool-delete', ve: null, requestId }, (task) => deletePool(context, name, task));
    },

    templates: () => store.listTemplates().map(viewed),
    template: (key) => viewed(findTemplate(context, key)),

    buildTemplate(request, requestId) {
      if (request.name !== undefined) checkTemplateName(request.name);
      return operations.start({ kind: 'template-build', ve: null, requestId },
        (task) => makeTemplate(context, (staging) => context.templates.build(request, staging, task), task));
    },

    importTemplate(request, requestId) {
      checkTemplateName(request.name);
      return operations.start({ kind: 'template-import', ve: null, requestId },
        (task) => makeTemplate(context, (staging) => context.templates.importArchive(request, staging, task), task));
    },

    warmTemplate(key, requestId) {
      const template = findTemplate(context, key);
      context.engine();
      return operations.start({ kind: 'template-warm', ve: null, requestId }, (task) => spares.warm(template, task));
    },

    coolTemplate(key, requestId) {
      const { fingerprint } = findTemplate(context, key);
      return operations.start({ kind: 'template-cool', ve: null, requestId }, () => spares.cool(fingerprint));
    },

    deleteTemplate(key, requestId) {
      const { fingerprint } = findTemplate(context, key);
      return operations.start({ kind: 'template-delete', ve: null, requestId }, async (task) => {
        await spares.drop(fingerprint);
        await deleteTemplate(context, fingerprint, task);
      });
    },

    async adopt(sameBoot) {
      const unfinished = await recover(context, sameBoot, exits);
      await exits.idle();
      dropUnusedEngines(context);
      for (const { ve, force } of unfinished.stop) begin('stop', ve, null, (task) => stopVe(context, ve.uuid, { force }, task));
      for (const { ve, force } of unfinished.restart) begin('restart', ve, null, kept(ve, (task) => restartVe(context, ve.uuid, { force }, task)));
      for (const ve of unfinished.resume) begin('resume', ve, null, kept(ve, (task) => resumeVe(context, ve.uuid, task)));
      for (const { ve, snapshot } of unfinished.rollBack) begin('roll-back', ve, null, (task) => rollBack(context, ve.uuid, snapshot, task, true));
      if (sameBoot) exits.resume();
      spares.prepareRecent();
    },

    begin,

    ...withHost(context, begin),

    async close() {
      await spares.close();
      exits.close();
      await exits.idle();
    },
  };
  return manager;
}

/** A start that fails takes the new VE with it, and its logs: say so. */
function asCreateError(error: unknown): unknown {
  if (!(error instanceof VeldError)) return error;
  return new VeldError(error.code, error.message, {
    hint: 'Nothing was made. Create the VE without --start to look into it, then start it and read `veld logs`.', details: { ...error.details }, cause: error,
  });
}
