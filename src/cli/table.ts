/** The one table of commands: name to module. A module is loaded only when its command runs, or when help or docs want all of them. */
import type { Command } from './command.ts';

type Loader = () => Promise<{ command: Command }>;

/** Names with all their words, in the order of help. */
export const COMMANDS: Record<string, Loader> = {
  'create': () => import('./commands/create.ts'),
  'start': () => import('./commands/start.ts'),
  'stop': () => import('./commands/stop.ts'),
  'restart': () => import('./commands/restart.ts'),
  'suspend': () => import('./commands/suspend.ts'),
  'resume': () => import('./commands/resume.ts'),
  'evacuate': () => import('./commands/evacuate.ts'),
  'migrate': () => import('./commands/migrate.ts'),
  'checkpoint': () => import('./commands/checkpoint.ts'),
  'restore': () => import('./commands/restore.ts'),
  'export': () => import('./commands/export.ts'),
  'import': () => import('./commands/import.ts'),
  'backup create': () => import('./commands/backup/create.ts'),
  'backup list': () => import('./commands/backup/list.ts'),
  'backup restore': () => import('./commands/backup/restore.ts'),
  'backup verify': () => import('./commands/backup/verify.ts'),
  'backup delete': () => import('./commands/backup/delete.ts'),
  'repository add': () => import('./commands/repository/add.ts'),
  'repository list': () => import('./commands/repository/list.ts'),
  'repository check': () => import('./commands/repository/check.ts'),
  'repository remove': () => import('./commands/repository/remove.ts'),
  'snapshot create': () => import('./commands/snapshot/create.ts'),
  'snapshot list': () => import('./commands/snapshot/list.ts'),
  'snapshot restore': () => import('./commands/snapshot/restore.ts'),
  'snapshot diff': () => import('./commands/snapshot/diff.ts'),
  'snapshot delete': () => import('./commands/snapshot/delete.ts'),
  'clone': () => import('./commands/clone.ts'),
  'freeze': () => import('./commands/freeze.ts'),
  'thaw': () => import('./commands/thaw.ts'),
  'set': () => import('./commands/set.ts'),
  'publish': () => import('./commands/publish.ts'),
  'unpublish': () => import('./commands/unpublish.ts'),
  quota: () => import('./commands/quota.ts'),
  rename: () => import('./commands/rename.ts'),
  'destroy': () => import('./commands/destroy.ts'),
  'list': () => import('./commands/list.ts'),
  'show': () => import('./commands/show.ts'),
  'beancounters': () => import('./commands/beancounters.ts'),
  'top': () => import('./commands/top.ts'),
  'stats': () => import('./commands/stats.ts'),
  'traffic': () => import('./commands/traffic.ts'),
  'enter': () => import('./commands/enter.ts'),
  'console': () => import('./commands/console.ts'),
  'cp': () => import('./commands/cp.ts'),
  'exec': () => import('./commands/exec.ts'),
  'logs': () => import('./commands/logs.ts'),
  'events': () => import('./commands/events.ts'),
  'template build': () => import('./commands/template/build.ts'),
  'template recipes': () => import('./commands/template/recipes.ts'),
  'template log': () => import('./commands/template/log.ts'),
  'template import': () => import('./commands/template/import.ts'),
  'template commit': () => import('./commands/template/commit.ts'),
  'template edit': () => import('./commands/template/edit.ts'),
  'template history': () => import('./commands/template/history.ts'),
  'template diff': () => import('./commands/template/diff.ts'),
  'template rollback': () => import('./commands/template/rollback.ts'),
  'template search': () => import('./commands/template/search.ts'),
  'template pull': () => import('./commands/template/pull.ts'),
  'template update': () => import('./commands/template/update.ts'),
  'template sources': () => import('./commands/template/sources.ts'),
  'template export': () => import('./commands/template/export.ts'),
  'template publish': () => import('./commands/template/publish.ts'),
  'template unpublish': () => import('./commands/template/unpublish.ts'),
  'template published': () => import('./commands/template/published.ts'),
  'template server': () => import('./commands/template/server.ts'),
  'template list': () => import('./commands/template/list.ts'),
  'template show': () => import('./commands/template/show.ts'),
  'template warm': () => import('./commands/template/warm.ts'),
  'template delete': () => import('./commands/template/delete.ts'),
  'operation list': () => import('./commands/operation/list.ts'),
  'operation show': () => import('./commands/operation/show.ts'),
  'operation cancel': () => import('./commands/operation/cancel.ts'),
  'node add': () => import('./commands/node/add.ts'),
  'node list': () => import('./commands/node/list.ts'),
  'node show': () => import('./commands/node/show.ts'),
  'node set': () => import('./commands/node/set.ts'),
  'node remove': () => import('./commands/node/remove.ts'),
  'node token': () => import('./commands/node/token.ts'),
  'node rotate': () => import('./commands/node/rotate.ts'),
  'capacity': () => import('./commands/capacity.ts'),
  'pool create': () => import('./commands/pool/create.ts'),
  'pool delete': () => import('./commands/pool/delete.ts'),
  'pool list': () => import('./commands/pool/list.ts'),
  'pool show': () => import('./commands/pool/show.ts'),
  'preset list': () => import('./commands/preset/list.ts'),
  'preset show': () => import('./commands/preset/show.ts'),
  'doctor': () => import('./commands/doctor.ts'),
  'engine show': () => import('./commands/engine/show.ts'),
  'engine build': () => import('./commands/engine/build.ts'),
  'completion': () => import('./commands/completion.ts'),
  'version': () => import('./commands/version.ts'),
  'help': () => import('./commands/help.ts'),
};

/** Short names of commands. */
export const ALIASES: Record<string, string> = { ubc: 'beancounters' };

/** What people type who come from elsewhere, and what it is called here. */
export const SYNONYMS: Record<string, string> = {
  ls: 'list', ps: 'list', htop: 'top', vztop: 'top', vzubc: 'beancounters NAME', vznetstat: 'traffic', netstat: 'traffic', user_beancounters: 'beancounters NAME', vzlist: 'list', info: 'show', status: 'show', inspect: 'show', delete: 'destroy', rm: 'destroy', remove: 'destroy',
  port: 'publish', proxy: 'publish', expose: 'publish', shell: 'enter NAME', login: 'enter NAME', attach: 'console NAME', copy: 'cp', push: 'cp', pull: 'cp', launch: 'create NAME --template TEMPLATE --start', run: 'create NAME --template TEMPLATE --start',
  hibernate: 'suspend', chkpnt: 'suspend', undump: 'resume', pause: 'freeze', unpause: 'thaw', config: 'set', reboot: 'restart', kill: 'stop --force',
  vzcpucheck: 'capacity', vzmemcheck: 'capacity', vzcalc: 'capacity --ves', presets: 'preset list', recipes: 'template recipes', pools: 'pool list', storage: 'pool list', vzquota: 'quota VE', vzdump: 'backup create', pbs: 'repository add', backups: 'backup list', repositories: 'repository list', setquota: 'quota VE user NAME space=SOFT:HARD', repquota: 'quota VE', profile: 'preset list', nodes: 'node list', pair: 'node add NAME', cluster: 'node list', image: 'template list', templates: 'template list', operations: 'operation list', monitor: 'events', journal: 'logs', check: 'doctor',
};

/** Load one command. Undefined when the table has no such name. */
export async function loadCommand(name: string): Promise<Command | undefined> {
  if (!Object.hasOwn(COMMANDS, name)) return undefined;
  return (await COMMANDS[name]!()).command;
}

/** Load all commands, in the table's order. */
export async function loadAllCommands(): Promise<Command[]> {
  return Promise.all(Object.values(COMMANDS).map(async (load) => (await load()).command));
}
