/** `veld template recipes` */
import type { RecipeView } from '../../../templates/recipes/catalogue.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'template recipes',
  group: 'Templates',
  summary: 'List the recipes of which templates can be built',
  description: ['A recipe is a file of YAML: what a template begins with, and what is done and tried in a throw-away VE. Those of the administrator lie in `recipesDir` of the settings (/etc/veld/recipes), NAME.yaml each, and stand in the place of shipped ones of the same name.'],
  options: [{ flags: '-q, --quiet', help: 'Names only, one a line' }],
  examples: [['template recipes', 'A table']],
  json: 'an array of recipes; with --quiet an array of names',
  async run(context, _args, { quiet }) {
    const recipes = await (await context.client()).request<RecipeView[]>('GET', '/v1/recipes');
    if (context.json) context.printJson(quiet ? recipes.map(({ name }) => name) : recipes);
    else if (quiet) context.out(recipes.map(({ name }) => `${name}\n`).join(''));
    else {
      context.out(layoutTable([{ title: 'NAME' }, { title: 'OF' }, { title: 'FROM' }, { title: 'DESCRIPTION', shrink: true }], recipes.map((recipe) => [
        recipe.name, recipe.shipped ? 'Veld' : 'here', recipe.from || '-', recipe.error ?? recipe.description,
      ]), context));
    }
  },
});
