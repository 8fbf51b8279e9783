/** Recipes of this node: files of the administrator, NAME.yaml each, and below them those that ship. Read when they are asked for: an edited file counts at once. */
import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { VeldError, toVeldError } from '../../lib/errors.ts';
import { namesIn } from '../../lib/files.ts';
import type { Settings } from '../../lib/settings.ts';
import { MOST_TEXT } from './nodes.ts';
import { parseRecipe } from './parse.ts';
import type { Recipe } from './types.ts';

/** Most bytes of one file that a recipe brings along, and of all together. */
const MOST_SOURCE = 16 << 20;
const MOST_SOURCES = 64 << 20;

export interface RecipeView {
  name: string;
  description: string;
  /** Suite or template that it begins with; empty for one that cannot be read. */
  from: string;
  /** Path of its file. */
  file: string;
  /** It came with Veld; false: it is the administrator's. */
  shipped: boolean;
  /** Why it cannot be used; null: it can. */
  error: string | null;
}

/** A recipe with all that it brings along. */
export interface LoadedRecipe {
  recipe: Recipe;
  file: string;
  /** By `source`: content. */
  sources: ReadonlyMap<string, Buffer>;
  /** sha256 of the recipe's text and of all that it brings along, 64 hex digits. */
  hash: string;
}

type Places = Pick<Settings, 'recipesDir' | 'libexecDir'>;

/** By name; the administrator's stands in the place of a shipped one of its name. */
export function listRecipes({ recipesDir, libexecDir }: Places): RecipeView[] {
  const found = new Map<string, RecipeView>();
  for (const [folder, shipped] of [[join(libexecDir, '../share/recipes'), true], [recipesDir, false]] as const) {
    for (const name of recipesIn(folder)) found.set(name, view(name, join(folder, `${name}.yaml`), shipped));
  }
  return [...found.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

function recipesIn(folder: string): string[] {
  return namesIn(folder).flatMap((file) => /^([a-z][a-z0-9.+-]{0,62})\.yaml$/.exec(file)?.[1] ?? []);
}

function view(name: string, file: string, shipped: boolean): RecipeView {
  try {
    const { recipe } = read(file);
    if (recipe.name !== name) throw new VeldError('recipe.invalid', `${file}: its \`name\` is ${recipe.name}, and the file's is another.`);
    return { name, description: recipe.description, from: 'suite' in recipe.from ? recipe.from.suite : recipe.from.template, file, shipped, error: null };
  } catch (error) {
    return { name, description: '', from: '', file, shipped, error: toVeldError(error).message };
  }
}

/**
 * Read a recipe and all that it brings along.
 * @param wanted name of one of the node's, or the absolute path of a file
 * @throws VeldError `recipe.not_found`, `recipe.invalid`
 */
export function loadRecipe(places: Places, wanted: string): LoadedRecipe {
  let file = wanted;
  if (!wanted.startsWith('/')) {
    const known = listRecipes(places).find(({ name }) => name === wanted);
    if (!known) throw new VeldError('recipe.not_found', `There is no recipe ${JSON.stringify(wanted.slice(0, 80))}.`, { hint: 'See `veld template recipes`; a file is named by a path with a slash, or one that ends with .yaml.' });
    if (known.error !== null) throw new VeldError('recipe.invalid', known.error);
    ({ file } = known);
  }
  const { recipe, text } = read(file);
  const hash = createHash('sha256').update(JSON.stringify(text));
  const sources = new Map<string, Buffer>();
  let sum = 0;
  for (const { source, line } of recipe.files) {
    if (source === null || sources.has(source)) continue;
    const content = readSource(file, source, line);
    sum += content.length;
    if (sum > MOST_SOURCES) throw new VeldError('recipe.invalid', `${file}:${line}: the files that it brings along have more than ${MOST_SOURCES >> 20} MiB together.`);
    sources.set(source, content);
    hash.update(JSON.stringify([source, createHash('sha256').update(content).digest('hex')]));
  }
  return { recipe, file, sources, hash: hash.digest('hex') };
}

function read(file: string): { recipe: Recipe; text: string } {
  let text: string;
  try {
    text = contentOf(file, 4 * MOST_TEXT).toString('utf8');
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new VeldError(absent ? 'recipe.not_found' : 'recipe.invalid', absent ? `There is no file ${file}.` : `${file} cannot be read: ${(error as Error).message.replace(/\.$/, '')}.`, { hint: 'The daemon reads the file, on this node.', cause: error });
  }
  return { recipe: parseRecipe(text, basename(file)), text };
}

/** A file beside the recipe. Links may lead elsewhere in its folder, and not out of it: who hands a recipe on must know what it takes along. */
function readSource(file: string, source: string, line: number): Buffer {
  const refuse = (why: string): never => { throw new VeldError('recipe.invalid', `${basename(file)}:${line}: ${source} ${why}.`); };
  try {
    const folder = realpathSync(dirname(file));
    const path = realpathSync(join(folder, source));
    if (!path.startsWith(folder === '/' ? folder : `${folder}/`)) return refuse('leads out of the folder of the recipe');
    return contentOf(path, MOST_SOURCE);
  } catch (error) {
    if (error instanceof VeldError) throw error;
    return refuse(`cannot be read: ${(error as Error).message}`);
  }
}

/** Of an ordinary file, whole. A FIFO in its place must not block. */
function contentOf(file: string, most: number): Buffer {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error('it is not an ordinary file');
    if (stat.size > most) throw new Error(`it has more than ${most} bytes`);
    const content = Buffer.alloc(stat.size);
    return content.subarray(0, readSync(fd, content, 0, content.length, 0));
  } finally {
    closeSync(fd);
  }
}
