/** What is laid into a new VE for those who will use it, made of a request and of what the VE's tree has. Nothing in the VE is run for it. */
import { posix } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import type { GuestRow } from '../../kernel/guest-rows.ts';
import type { Personal, PersonalUser } from '../../spec/personal.ts';
import { addAccount, homeOf, openForKeys, withPassword, type AccountFiles } from './accounts.ts';
import { addCloudInit, type Instance } from './cloud-init.ts';
import { addLocale, addTimezone } from './places.ts';
import { collectRows, type Rows } from './rows.ts';
import type { Tree } from './tree.ts';

/** Groups whose members may do everything by sudo (Debian and Ubuntu, Fedora and Alpine), and one that may read logs. */
const SUDO_GROUPS = ['sudo', 'wheel'];
const LOG_GROUP = 'adm';
const SUDOERS = '/etc/sudoers.d';

/** What a home begins with. */
const SKELETON = '/etc/skel';
/** Names and bytes of it. */
const SKELETON_MAX = { names: 500, bytes: 4 << 20 };

const DAY = 86_400_000;

/**
 * All rows for a VE.
 * @throws VeldError `personal.invalid` when what is asked for does not fit the tree; `template.no_cloud_init`
 */
export async function planPersonal(tree: Tree, instance: Instance, personal: Personal): Promise<GuestRow[]> {
  const rows = collectRows(tree);
  if ((personal.users ?? []).length > 0 || personal.root) await addLogins(tree, rows, personal);
  if (personal.locale !== undefined) await addLocale(tree, rows, personal.locale);
  if (personal.timezone !== undefined) await addTimezone(tree, rows, personal.timezone);
  await addCloudInit(tree, rows, instance, personal);
  return rows.all();
}

async function addLogins(tree: Tree, rows: Rows, { users = [], root }: Personal): Promise<void> {
  // Byte by byte, whatever they are: names of people are not always UTF-8.
  const read = async (name: string): Promise<string | undefined> => (await tree.bytes(`/etc/${name}`))?.toString('latin1');
  const passwd = await read('passwd');
  if (passwd === undefined) throw new VeldError('personal.invalid', 'The template has no /etc/passwd: there can be no accounts in it.', { hint: 'Leave users and keys out.' });
  const before: AccountFiles = { passwd, shadow: await read('shadow'), group: await read('group') ?? '', gshadow: await read('gshadow') };
  const day = Math.floor(Date.now() / DAY);
  let files = before;
  const shell = await tree.find('/bin/bash') ? '/bin/bash' : '/bin/sh';
  for (const user of users) {
    const home = `/home/${user.name}`;
    const added = addAccount(files, { name: user.name, passwordHash: user.passwordHash, groups: user.sudo === true ? [...SUDO_GROUPS, LOG_GROUP] : [], home, shell }, day);
    files = added.files;
    const owner = { uid: added.uid, gid: added.gid };
    if (user.sudo === true) await allowAll(tree, rows, user, added.groups.some((group) => SUDO_GROUPS.includes(group)));
    if (!(await tree.find(home))) await addSkeleton(tree, rows, SKELETON, home, owner);
    await rows.folder(home, { mode: 0o700, ...owner });
    await addKeys(tree, rows, home, user.sshKeys ?? [], owner);
  }
  if (root?.passwordHash !== undefined) files = withPassword(files, 'root', root.passwordHash, day);
  if (root?.sshKeys?.length) {
    files = openForKeys(files, 'root');
    await addKeys(tree, rows, homeOf(files, 'root') ?? '/root', root.sshKeys, { uid: 0, gid: 0 });
  }
  for (const name of ['passwd', 'shadow', 'group', 'gshadow'] as const) {
    const content = files[name];
    if (content !== undefined && content !== before[name]) await rows.file(`/etc/${name}`, Buffer.from(content, 'latin1'));
  }
}

/** Members of such a group are asked for their password, which one who has only a key has not. */
async function allowAll(tree: Tree, rows: Rows, { name, passwordHash }: PersonalUser, member: boolean): Promise<void> {
  const folder = (await tree.find(SUDOERS))?.kind === 'folder';
  if (!folder && !member) throw new VeldError('personal.invalid', `The template has neither a group sudo or wheel nor ${SUDOERS}: ${name} cannot be given the right to do everything.`, { hint: 'Take a template with sudo (`veld template build --include sudo`), or give root a key.' });
  if (folder && (!member || passwordHash === undefined)) {
    await rows.file(`${SUDOERS}/90-veld-${name}`, `# Written by Veld when this VE was made.\n${name} ALL=(ALL:ALL) ${passwordHash === undefined ? 'NOPASSWD: ' : ''}ALL\n`, { mode: 0o440, uid: 0, gid: 0 });
  }
}

/** Keys are added to those that the template brings. */
async function addKeys(tree: Tree, rows: Rows, home: string, keys: readonly string[], owner: { uid: number; gid: number }): Promise<void> {
  if (keys.length === 0) return;
  await rows.folder(`${home}/.ssh`, { mode: 0o700, ...owner });
  const path = `${home}/.ssh/authorized_keys`;
  const there = (await tree.text(path) ?? await tree.text(`${SKELETON}/.ssh/authorized_keys`) ?? '').split('\n').filter((line) => line.trim() !== '');
  await rows.file(path, `${[...new Set([...there, ...keys.map((key) => key.trim())])].join('\n')}\n`, { mode: 0o600, ...owner });
}

async function addSkeleton(tree: Tree, rows: Rows, from: string, to: string, owner: { uid: number; gid: number }, left = { ...SKELETON_MAX }): Promise<void> {
  for (const name of await tree.names(from)) {
    const [source, target] = [posix.join(from, name), posix.join(to, name)];
    const found = await tree.find(source);
    if (found?.kind !== 'file' && found?.kind !== 'folder') continue;
    left.names -= 1;
    if (left.names < 0) throw new VeldError('personal.invalid', `The template's ${SKELETON} is too large to be copied into a home.`, { hint: 'Take another template.' });
    if (found.kind === 'folder') {
      await rows.folder(target, { mode: found.mode, ...owner });
      await addSkeleton(tree, rows, source, target, owner, left);
      continue;
    }
    const content = await tree.bytes(source) ?? new Uint8Array();
    left.bytes -= content.length;
    if (left.bytes < 0) throw new VeldError('personal.invalid', `The template's ${SKELETON} is too large to be copied into a home.`, { hint: 'Take another template.' });
    await rows.file(target, content, { mode: found.mode, ...owner });
  }
}
