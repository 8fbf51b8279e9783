/** `veld template build` */
import { resolve } from 'node:path';
import { VeldError } from '../../../lib/errors.ts';
import type { TemplateRecord } from '../../../store/types.ts';
import type { RecipeView } from '../../../templates/recipes/catalogue.ts';
import type { Context } from '../../context.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';

interface Options {
  init?: 'systemd' | 'sysvinit' | 'busybox' | 'none';
  name?: string;
  include?: string[][];
  mirror?: string;
  replace?: boolean;
  wait: boolean;
}

export const command = defineCommand<{ what: string }, Options>({
  name: 'template build',
  group: 'Templates',
  summary: 'Build a template from the packages of a distribution, or from a recipe',
  description: [
    'A recipe tells what is put into a template, done in it and tried, in throw-away VEs: see `veld template recipes`, and docs/how-to/recipes.md for one of your own. A file is known by a slash, or by its end: .yaml. With --init or --include it is a suite in any case.',
    'Debian and Ubuntu suites. Signatures are always checked. `host` means the release that this host runs.',
    'With --init busybox packages are unpacked, not installed: a system of a few megabytes. With --init none the template has no init at all; it is for VEs that run one command (`veld create NAME -t TEMPLATE -- COMMAND`).',
  ],
  args: [{ name: 'what', completes: 'recipe', help: 'A recipe, or the file of one; or a suite: `debian-12` or `bookworm`, `debian-testing`, `ubuntu-24.04` or `noble`, ..., or `host`' }],
  options: [
    { flags: '--init <init>', help: 'What its VEs boot: systemd (default), sysvinit, busybox or none', choices: ['systemd', 'sysvinit', 'busybox', 'none'] },
    { flags: '-n, --name <name>', help: 'Name of the template; default as the recipe says, or from the suite and the init: debian-12, debian-12-sysvinit, debian-12-busybox, debian-12-app' },
    { flags: '-i, --include <packages>', help: 'More packages, separated by commas', parse: (text) => text.split(',').filter(Boolean), repeat: true },
    { flags: '-m, --mirror <url>', help: 'Package source; default: the main one of this host' },
    { flags: '--replace', help: 'Of a recipe: a template that has the name gives it up; it goes when no VE stands on it' },
    NO_WAIT,
  ],
  examples: [['template build debian-12', 'Debian 12'], ['template build lamp', 'A recipe that ships'], ['template build ./shop.yaml --replace', 'One of your own, again'], ['template build debian-13 --init sysvinit', 'Debian 13 without systemd'], ['template build noble --name shop --include nginx,postgresql', 'Ubuntu 24.04 with two programs']],
  errors: ['recipe.not_found', 'recipe.invalid', 'request.invalid', 'template.not_found', 'template.name_taken', 'template.invalid', 'template.build_failed', 'name.invalid', 'engine.missing', 'capacity.exceeded', 've.start_failed', 'disk.full', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation; its result is the template',
  async run(context, { what }, { init, name, include = [], mirror, replace, wait }) {
    const ofSuite = init !== undefined || include.length > 0;
    const recipe = ofSuite ? undefined : await recipeOf(context, what);
    if (recipe === undefined && replace) throw new VeldError('usage', '--replace is for recipes.');
    const job = recipe === undefined
      ? { path: '/v1/templates/build', body: { suite: what, init, name, include: include.flat(), mirror } }
      : { path: '/v1/templates/recipe', body: { recipe, ...name !== undefined && { name }, ...mirror !== undefined && { mirror }, ...replace && { replace } } };
    const record = await runJob(context, { label: name ?? what, method: 'POST', ...job }, { wait });
    if (context.json) context.printJson(record);
    else context.out(wait ? `template ${(record.result as Partial<TemplateRecord> | null)?.name ?? name ?? what} built\n` : `${record.id}\n`);
  },
});

/** How the daemon is told of it, which has another working directory; undefined for what is no recipe. */
async function recipeOf(context: Context, what: string): Promise<string | undefined> {
  if (what.includes('/') || /\.ya?ml$/.test(what)) return resolve(what);
  const known = await (await context.client()).request<RecipeView[]>('GET', '/v1/recipes').catch((error: unknown) => {
    if (error instanceof VeldError && error.code === 'route.not_found') return []; // another node may be older
    throw error;
  });
  return known.some(({ name }) => name === what) ? what : undefined;
}
