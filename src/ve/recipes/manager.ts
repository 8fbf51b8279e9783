/** Recipes, and templates that are built of them. */
import { VeldError } from '../../lib/errors.ts';
import type { OperationManager } from '../../ops/operations.ts';
import type { Task } from '../../ops/types.ts';
import { checkTemplateName } from '../../spec/names.ts';
import type { OperationRecord, TemplateRecord } from '../../store/types.ts';
import { listRecipes, loadRecipe, type RecipeView } from '../../templates/recipes/catalogue.ts';
import { findSuite } from '../../templates/suites.ts';
import type { VeContext } from '../context.ts';
import { deleteTemplate, findTemplate } from '../template-verbs.ts';
import type { TemplateView } from '../types.ts';
import { buildFromRecipe, type RecipeBuild } from './build.ts';
import { openBuildLog, readBuildLog } from './log.ts';

export interface RecipeOrder {
  /** Name of a recipe of this node, or the absolute path of a file on it. */
  recipe: string;
  /** Of the template; default: as the recipe says. */
  name?: string;
  /** In the place of the recipe's, or of the usual one. */
  mirror?: string;
  /** A template of that name gives it up. */
  replace?: boolean;
}

export interface RecipeManager {
  recipes(): RecipeView[];
  /** Throws `recipe.not_found`, `recipe.invalid`, `template.not_found`, `template.name_taken`. */
  buildRecipe(order: RecipeOrder, requestId: string | null): OperationRecord;
  /** What the lines of the last build of a template of that name have said. Throws `recipe.not_found`. */
  buildLog(name: string): string;
}

/** @param spares of templates that go */
export function recipeManager(context: VeContext, operations: Pick<OperationManager, 'start'>, spares: { drop(template: string): Promise<void> }, view: (template: TemplateRecord) => TemplateView): RecipeManager {
  const { settings, store } = context;
  /** Names of templates that are being built: two would write one log, and one of them for nothing. */
  const busy = new Set<string>();

  const checkIdle = (name: string): void => {
    if (busy.has(name)) throw new VeldError('template.name_taken', `A template named ${name} is being built already.`, { hint: 'Wait for it: see `veld operation list`.' });
  };

  const build = async (wanted: RecipeBuild, task: Task): Promise<TemplateView> => {
    checkIdle(wanted.name);
    busy.add(wanted.name);
    const log = openBuildLog(settings, wanted.name);
    try {
      const { template, older } = await buildFromRecipe(context, wanted, log, task);
      if (older) await dropOlder(older, task);
      return view(template);
    } catch (error) {
      log.say(`it came to nothing: ${(error as Error).message}`);
      if (error instanceof VeldError && error.code === 'template.build_failed') throw new VeldError(error.code, error.message, { hint: `\`veld template log ${wanted.name}\` has all that was said.`, details: { ...error.details }, cause: error });
      throw error;
    } finally {
      log.close();
      busy.delete(wanted.name);
    }
  };

  /** The one whose name was taken goes when no VE stands on it. */
  const dropOlder = async (older: TemplateRecord, task: Task): Promise<void> => {
    if (store.listVes().some((ve) => ve.ready && ve.template === older.fingerprint)) return task.warn(`VEs stand on the older one, which is called ${older.name} now.`);
    await spares.drop(older.fingerprint);
    await deleteTemplate(context, older.fingerprint, { ...task, phase() {}, commit() {}, undo() {} }).catch((error: unknown) => task.warn(`The older one is called ${older.name} now: ${(error as Error).message}`));
  };

  return {
    recipes: () => listRecipes(settings),
    buildLog: (name) => readBuildLog(settings, name),
    buildRecipe({ recipe: wanted, name, mirror, replace = false }, requestId) {
      const loaded = loadRecipe(settings, wanted);
      const { recipe } = loaded;
      const called = checkTemplateName(name ?? recipe.name);
      if ('suite' in recipe.from) findSuite(recipe.from.suite, mirror ?? recipe.mirror ?? undefined, settings.engine.mirror);
      else if (mirror !== undefined) throw new VeldError('request.invalid', `${recipe.name} stands on the template ${recipe.from.template}, whose package sources are its own.`, { hint: 'Leave the mirror out.' });
      else baseFor(recipe.from.template);
      if (!replace && store.listTemplates().some((template) => template.name === called)) throw new VeldError('template.name_taken', `There is a template named ${called} already.`, { hint: 'Build it under another name (--name), or let it take the place of that one (--replace).' });
      context.engine();
      checkIdle(called);
      return operations.start({ kind: 'template-build', ve: null, requestId }, (task) => build({ loaded, name: called, replace, ...mirror !== undefined && { mirror } }, task));
    },
  };

  /** @throws VeldError `template.not_found` */
  function baseFor(key: string): void {
    try {
      findTemplate(context, key);
    } catch (error) {
      const known = listRecipes(settings).some(({ name }) => name === key);
      throw new VeldError('template.not_found', (error as Error).message, known ? { hint: `There is a recipe of that name: build it first, \`veld template build ${key}\`.` } : { cause: error });
    }
  }
}
