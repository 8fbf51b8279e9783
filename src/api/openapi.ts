/** The OpenAPI document, made from the schemas of the routes. */
import type { Api } from './types.ts';

type Json = Record<string, unknown>;

/** The document with each titled schema once, under `components`. */
export function openApiDocument(app: Api): Json {
  const document = structuredClone(app.swagger()) as unknown as Json;
  const schemas: Json = {};
  const paths = hoist(document.paths, schemas);
  return { ...document, paths, components: { schemas } };
}

/** Replace titled schemas by references, and put them into `schemas`. */
function hoist(value: unknown, schemas: Json): unknown {
  if (Array.isArray(value)) return value.map((item) => hoist(item, schemas));
  if (typeof value !== 'object' || value === null) return value;
  const copy = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, hoist(item, schemas)]));
  if (typeof copy.title !== 'string' || typeof copy.type !== 'string') return copy;
  schemas[copy.title] = copy;
  return { $ref: `#/components/schemas/${copy.title}` };
}
