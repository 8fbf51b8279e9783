/** The VEs in which quota tools work, and what the tools of one stand on. */
import { VeldError } from '../../lib/errors.ts';
import type { OperationRecord, VeRecord } from '../../store/types.ts';
import { resolveProperties } from '../../spec/properties.ts';
import { findVe, type VeContext } from '../context.ts';
import { accountNames, limitAccount } from '../quota.ts';
import { readRunState, runFolder } from '../run-folder.ts';
import type { AskedTool } from './frames.ts';
import { putQuotaScripts, quotaSocket } from './inside.ts';
import { serveQuotaTools, type QuotaServer } from './serve.ts';
import { runTool } from './tools.ts';
import type { Accounts, Caller, ToolAnswer } from './types.ts';

/** What is asked of the manager: a property is changed as by `veld set`. */
export interface Setter {
  set(key: string, changes: Record<string, unknown>, options: object, requestId: string | null): OperationRecord;
}

/** VEs that run and whose users have quotas, each with what tells this boot from another one. Cheap. */
export function countedVes({ settings, store }: Pick<VeContext, 'settings' | 'store'>): { uuid: string; name: string; boot: string }[] {
  return store.listVes().flatMap(({ uuid, name, number, ready, properties }) => {
    if (!ready || resolveProperties(properties)['disk.users'] === 0) return [];
    const { init } = readRunState(settings, number);
    return init === undefined ? [] : [{ uuid, name, boot: `${number} ${init.pid} ${init.startTime}` }];
  });
}

/**
 * Let the tools of a running VE work: listen for them, and put their scripts into it.
 * @throws VeldError `ve.not_running` when it has just ended; the system error as it is, where nobody can listen
 */
export async function serveQuotas(context: VeContext, setter: Setter, uuid: string): Promise<QuotaServer> {
  const { settings, store, log } = context;
  const ve = findVe(store, uuid);
  const { init } = readRunState(settings, ve.number);
  if (init === undefined) throw new VeldError('ve.not_running', `${ve.name} has just ended.`);
  const server = serveQuotaTools({
    socket: quotaSocket(runFolder(settings, ve.number)), uidBase: ve.uidBase, log: log.child({ ve: uuid }),
    answer: async (asked, caller) => {
      const now = findVe(store, uuid);
      const answer = await answerTool(context, setter, now, asked, caller);
      // What changes something is in the log of the host, as requests of its own administrator are.
      if (caller.uid === 0 && asked.tool !== 'quota' && asked.tool !== 'repquota') log.info({ ve: uuid, name: now.name, tool: asked.tool, words: asked.words.slice(0, 16).map((word) => word.slice(0, 80)), status: answer.status }, 'a quota tool was used in a VE');
      return answer;
    },
  });
  // The disk may be full, or read-only: the socket is there all the same.
  const put = await putQuotaScripts(init, ve.uidBase).catch((error: unknown) => {
    log.warn({ ve: uuid, name: ve.name, err: error }, 'quota tools could not be put into a VE');
    return [];
  });
  if (put.length > 0) log.info({ ve: uuid, name: ve.name, put }, 'quota tools were put into a VE');
  return server;
}

async function answerTool(context: VeContext, setter: Setter, ve: VeRecord, { tool, words, text }: AskedTool, caller: Caller): Promise<ToolAnswer> {
  if (resolveProperties(ve.properties)['disk.users'] === 0) return { status: 1, err: `${tool.slice(0, 40)}: users of this server have no disk quotas any more.\n` };
  const { users, groups } = await accountNames(context, ve);
  const accounts: Accounts = {
    of: (kind) => context.volumes.users(ve.uuid, ve.uidBase)[`${kind}s`],
    names: (kind) => (kind === 'user' ? users : groups),
    grace: resolveProperties(ve.properties)['disk.users_grace'],
    now: Date.now() / 1000,
    limit(kind, id, limits) {
      const busy = context.operations.isBusy(ve.uuid);
      if (busy) throw new VeldError('ve.busy', `the host is at work on this server (${busy.kind}); try again.`);
      limitAccount(context, ve, kind, id, limits);
    },
    async setGrace(seconds) {
      const { id } = setter.set(ve.uuid, { 'disk.users_grace': seconds }, {}, null);
      const { error, state } = await context.operations.wait(id);
      if (state !== 'succeeded') throw new VeldError('ve.busy', `the time of grace could not be changed: ${error?.message ?? state}`);
    },
  };
  return runTool(tool, { words, text, caller, accounts });
}
