/** Routes of recipes, and of templates that are built of them. */
import { Type } from '@fastify/type-provider-typebox';
import { answerOperation, operationAnswers } from './answer-operation.ts';
import { answers } from './errors.ts';
import { newName, NoQuery, nullable, TemplateParams, WaitQuery } from './schemas.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['templates'];

export const RecipeSchema = Type.Object({
  name: Type.String(), description: Type.String(), from: Type.String({ description: 'Suite or template that it begins with' }), file: Type.String(),
  shipped: Type.Boolean({ description: 'It came with Veld; false: it is the administrator\'s' }), error: nullable(Type.String({ description: 'Why it cannot be used' })),
}, { title: 'Recipe' });

export const BuildLogSchema = Type.Object({ log: Type.String({ description: 'Text, oldest first; lines with == are Veld\'s own' }) }, { title: 'BuildLog' });

const RecipeBody = Type.Object({
  recipe: Type.String({ maxLength: 4095, pattern: '^[!-~][^\\u0000-\\u001f]*$', description: 'Name of a recipe, or the absolute path of a file on the node' }),
  name: Type.Optional({ ...newName, description: 'Of the template; default: as the recipe says' }),
  mirror: Type.Optional(Type.String({ maxLength: 500, description: 'In the place of the recipe\'s' })),
  replace: Type.Optional(Type.Boolean({ description: 'A template of that name gives it up: it goes when no VE stands on it, else it is called by the day on which it was made' })),
}, { additionalProperties: false, title: 'RecipeBuildRequest', examples: [{ recipe: 'lamp' }] });

/** Add the routes. */
export function recipeRoutes(app: Api, { deps }: RouteContext): void {
  const { manager, operations } = deps;

  app.get('/v1/recipes', {
    schema: { summary: 'Recipes of templates', tags, querystring: NoQuery, response: answers({ 200: Type.Array(RecipeSchema) }) },
  }, (_request, reply) => reply.send(manager.recipes()));

  app.post('/v1/templates/recipe', {
    schema: { summary: 'Build a template from a recipe', tags, querystring: WaitQuery, body: RecipeBody,
      response: operationAnswers('recipe.not_found', 'recipe.invalid', 'request.invalid', 'name.invalid', 'template.not_found', 'template.name_taken', 'template.build_failed', 'template.invalid', 'engine.missing', 'capacity.exceeded', 've.start_failed', 'disk.full') },
  }, (request, reply) => {
    request.audit = { ...request.body };
    return answerOperation(reply, operations, manager.buildRecipe(request.body, request.id), request.query.wait);
  });

  app.get('/v1/templates/:template/log', {
    schema: { summary: 'What the last build of a template from a recipe has said, whether it came to something or not', tags, params: TemplateParams, querystring: NoQuery, response: answers({ 200: BuildLogSchema }, 'recipe.not_found') },
  }, (request, reply) => reply.send({ log: manager.buildLog(request.params.template) }));
}
