/** The form of a recipe: what may stand in it, and what that means. Pure; docs/how-to/recipes.md has the same for people. */
import type { VeldError } from '../../lib/errors.ts';
import { checkTemplateName } from '../../spec/names.ts';
import { parseBytes } from '../../spec/values.ts';
import type { TemplateInit } from '../types.ts';
import { readDocument, type Place, type Reader } from './nodes.ts';
import type { Recipe, RecipeFile, RecipeLimits, RecipeLine, RecipeUser } from './types.ts';

export const RECIPE_KEYS = ['name', 'description', 'from', 'init', 'mirror', 'packages', 'files', 'users', 'run', 'services', 'limits', 'tests'] as const;
const FILE_KEYS = ['path', 'content', 'source', 'mode', 'owner'] as const;
const USER_KEYS = ['name', 'uid', 'groups', 'shell', 'home', 'system', 'keys'] as const;
const INITS: readonly TemplateInit[] = ['systemd', 'sysvinit', 'busybox', 'none'];

/** What holds where a recipe says nothing. */
export const DEFAULT_LIMITS: RecipeLimits = { size: 10 * 2 ** 30, memory: null, time: 1800 };

/** Names of accounts, as useradd(8) of Debian takes them. */
const ACCOUNT = /^[a-z_][a-z0-9_-]{0,31}$/;
const PACKAGE = /^[a-z0-9][a-z0-9.+-]{1,80}$/;
const UNIT = /^[A-Za-z0-9_][A-Za-z0-9@:._-]{0,127}$/;

/** Files that Veld writes for each VE: what a template says there would not last. */
const OWN_FILES = ['/etc/hostname', '/etc/hosts', '/etc/resolv.conf', '/etc/machine-id', '/etc/fstab'];
/** Nothing that lies there is part of a template: kernel file systems, and what each boot makes anew. */
const OWN_FOLDERS = ['/proc', '/sys', '/dev', '/run', '/tmp', '/var/tmp', '/var/run'];

const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600 };

/** @param text the file's @param file how it is called in errors @throws VeldError `recipe.invalid`, with file and line */
export function parseRecipe(text: string, file: string): Recipe {
  const reader = readDocument(text, file);
  const { root, refuse } = reader;
  const given = reader.map(root, RECIPE_KEYS);
  const name = given.name ? reader.text(given.name, 63) : refuse(root, 'has no `name`');
  try {
    checkTemplateName(name);
  } catch (error) {
    refuse(given.name!, `is refused: ${(error as VeldError).message.replace(/\.$/, '')}`);
  }
  const from = given.from ? fromOf(reader, given.from) : refuse(root, 'has no `from`: a suite such as debian-12, or `template: NAME`');
  for (const key of ['init', 'mirror'] as const) if (given[key] && 'template' in from) refuse(given[key], 'is for suites: a template has its own');
  const init = given.init ? oneOf(reader, given.init, INITS) : 'systemd';
  const mirror = given.mirror ? reader.text(given.mirror, 500) : null;
  if (mirror !== null && !/^(https?|file):\/\/[^\s[\]]+$/.test(mirror)) refuse(given.mirror!, 'must be an http, https or file address');
  const services = given.services ? reader.map(given.services, ['enable', 'disable']) : {};
  const recipe: Recipe = {
    name, from, init, mirror,
    description: given.description ? reader.text(given.description, 300) : '',
    packages: texts(reader, given.packages, 500, 81, (one) => PACKAGE.test(one) || 'is no name of a package'),
    files: each(reader, given.files, 500, fileOf),
    users: each(reader, given.users, 100, userOf),
    run: each(reader, given.run, 500, lineOf),
    services: { enable: units(reader, services.enable), disable: units(reader, services.disable) },
    limits: given.limits ? limitsOf(reader, given.limits) : { ...DEFAULT_LIMITS },
    tests: each(reader, given.tests, 200, lineOf),
  };
  if (recipe.init === 'none' && given.services) refuse(given.services, 'make no sense without an init');
  twice(reader, given.users, recipe.users.map((user) => user.name));
  twice(reader, given.files, recipe.files.map((one) => one.path));
  return recipe;
}

function fromOf(reader: Reader, place: Place): Recipe['from'] {
  if (typeof (place.node as { value?: unknown }).value === 'string') {
    const suite = reader.text(place, 40);
    if (!/^[a-z][a-z0-9.-]*$/.test(suite)) reader.refuse(place, 'is no name of a suite');
    return { suite };
  }
  const { template } = reader.map(place, ['template']);
  if (!template) return reader.refuse(place, 'must be a suite such as debian-12, or `template: NAME`');
  const name = reader.text(template, 64);
  if (!/^[a-z0-9][a-z0-9.+-]*$/.test(name)) reader.refuse(template, 'is no name of a template');
  return { template: name };
}

function fileOf(reader: Reader, place: Place): RecipeFile {
  const given = reader.map(place, FILE_KEYS);
  const path = given.path ? pathOf(reader, given.path) : reader.refuse(place, 'has no `path`');
  if ((given.content === undefined) === (given.source === undefined)) reader.refuse(place, 'needs one of `content` and `source`');
  const content = given.content ? reader.text(given.content, 256 << 10, 'lines') : null;
  const source = given.source ? reader.text(given.source, 500) : null;
  if (source !== null && (source.startsWith('/') || source === '' || source.split('/').some((part) => part === '..' || part === ''))) reader.refuse(given.source!, 'must be a path beside the recipe, without ..');
  const mode = given.mode ? reader.text(given.mode, 5) : '0644';
  if (!/^[0-7]{3,4}$/.test(mode)) reader.refuse(given.mode!, 'must be 3 or 4 octal digits, such as "0644"');
  const owner = given.owner ? reader.text(given.owner, 65) : 'root:root';
  if (!/^([a-z_][a-z0-9_-]{0,31}|\d{1,5})(:([a-z_][a-z0-9_-]{0,31}|\d{1,5}))?$/.test(owner)) reader.refuse(given.owner!, 'must be USER or USER:GROUP');
  return { path, content, source, mode, owner, line: reader.lineOf(place) };
}

function pathOf(reader: Reader, place: Place): string {
  const path = reader.text(place, 1000);
  if (!path.startsWith('/') || path.split('/').slice(1).some((part) => part === '' || part === '.' || part === '..')) reader.refuse(place, 'must be an absolute path, without . and ..');
  if (OWN_FILES.includes(path)) reader.refuse(place, 'is a file that each VE has of its own');
  if (OWN_FOLDERS.some((folder) => path === folder || path.startsWith(`${folder}/`))) reader.refuse(place, 'lies where nothing of a template is kept');
  return path;
}

function userOf(reader: Reader, place: Place): RecipeUser {
  const given = reader.map(place, USER_KEYS);
  const name = given.name ? reader.text(given.name, 32) : reader.refuse(place, 'has no `name`');
  if (!ACCOUNT.test(name)) reader.refuse(given.name!, 'is no name of a user');
  const path = (one: Place | undefined): string | null => {
    if (!one) return null;
    const value = reader.text(one, 200);
    return /^\/[\w./+-]*$/.test(value) && !value.split('/').includes('..') ? value : reader.refuse(one, 'must be an absolute path of letters, digits, . _ + and -');
  };
  return {
    name, shell: path(given.shell), home: path(given.home),
    uid: given.uid ? reader.integer(given.uid, 1, 65_533) : null,
    groups: texts(reader, given.groups, 50, 32, (one) => ACCOUNT.test(one) || 'is no name of a group'),
    system: given.system ? reader.flag(given.system) : false,
    keys: texts(reader, given.keys, 50, 4000, (one) => /^\S.* ?\S/.test(one) || 'is no line of authorized_keys'),
    line: reader.lineOf(place),
  };
}

function lineOf(reader: Reader, place: Place): RecipeLine {
  const command = reader.text(place, 64 << 10, 'lines');
  if (command.trim() === '') reader.refuse(place, 'is empty');
  return { command, line: reader.lineOf(place) };
}

function limitsOf(reader: Reader, place: Place): RecipeLimits {
  const { size, memory, time } = reader.map(place, ['size', 'memory', 'time']);
  const bytes = (one: Place, least: number): number => {
    const value = parseBytes(reader.text(one, 20));
    return value !== undefined && value >= least ? value : reader.refuse(one, `must be an amount of at least ${least >> 20} MiB, such as 2G`);
  };
  const seconds = (one: Place): number => {
    const [, count = '', unit = ''] = /^(\d{1,6})([smh])$/.exec(reader.text(one, 20)) ?? reader.refuse(one, 'must be a time such as 90s, 30m or 2h');
    const value = Number(count) * SECONDS[unit]!;
    return value >= 1 && value <= 86_400 ? value : reader.refuse(one, 'must be from 1 second to 24 hours');
  };
  return { size: size ? bytes(size, 1 << 20) : DEFAULT_LIMITS.size, memory: memory ? bytes(memory, 64 << 20) : null, time: time ? seconds(time) : DEFAULT_LIMITS.time };
}

function oneOf<T extends string>(reader: Reader, place: Place, words: readonly T[]): T {
  const value = reader.text(place, 100);
  return words.find((word) => word === value) ?? reader.refuse(place, `must be one of ${words.join(', ')}`);
}

function each<T>(reader: Reader, place: Place | undefined, most: number, read: (reader: Reader, place: Place) => T): T[] {
  return place ? reader.list(place, most).map((one) => read(reader, one)) : [];
}

/** @param check true, or what is wrong with one */
function texts(reader: Reader, place: Place | undefined, most: number, length: number, check: (text: string) => true | string): string[] {
  const found = each(reader, place, most, (_, one) => {
    const text = reader.text(one, length);
    const right = check(text);
    return right === true ? text : reader.refuse(one, right);
  });
  twice(reader, place, found);
  return found;
}

const units = (reader: Reader, place: Place | undefined): string[] => texts(reader, place, 100, 128, (one) => UNIT.test(one) || 'is no name of a service');

function twice(reader: Reader, place: Place | undefined, names: readonly string[]): void {
  const again = names.findIndex((name, i) => names.indexOf(name) !== i);
  if (again >= 0) reader.refuse(reader.list(place!, names.length)[again]!, 'is there twice');
}
