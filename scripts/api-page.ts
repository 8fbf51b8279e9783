/** The reference page of the HTTP API, from the OpenAPI document that the daemon itself serves. */
import { buildApi } from '../src/api/app.ts';
import { openApiDocument } from '../src/api/openapi.ts';
import { silentLogger } from '../src/lib/log.ts';
import { createEventBus } from '../src/ops/events.ts';
import { head, table } from './markdown.ts';

/** What is used of JSON Schema here. */
interface Schema {
  $ref?: string;
  title?: string;
  type?: string;
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  minimum?: number;
  maximum?: number;
  patternProperties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  'x-codes'?: string[];
}

interface Answer {
  description: string;
  content?: Record<string, { schema: Schema }>;
}

interface Operation {
  summary: string;
  description?: string;
  tags: string[];
  parameters?: { name: string; in: string; required?: boolean; description?: string; schema: Schema }[];
  requestBody?: { content: Record<string, { schema: Schema; example?: unknown }> };
  responses: Record<string, Answer>;
}

/** The document, as far as the page needs it. */
export interface ApiDocument {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

/** Headings by tag, in the order of the page. */
const TAGS: Record<string, string> = { ves: 'VEs', exec: 'Commands in VEs', checkpoints: 'Checkpoints', backups: 'Exports and backups', templates: 'Templates', pools: 'Pools and disk quotas', operations: 'Operations', events: 'Events', nodes: 'Nodes', system: 'The daemon' };

/** What stands for a parameter in examples. */
const SAMPLES: Record<string, string> = { ve: 'web', template: 'debian-12', id: '$operation', session: '$session', node: 'node2', pool: 'quota', kind: 'user', who: '1000', '*': 'v1/ves' };

/** Errors that every route may answer; told once. */
const COMMON = new Set(['request.invalid', 'internal', 'disk.full', 'daemon.stopping', 'daemon.unreachable']);

/** The document of an API that nothing stands behind: routes are described without being asked. */
export async function apiDocument(): Promise<ApiDocument> {
  const api = await buildApi({
    version: '', instance: 'main', log: silentLogger(), manager: {} as never, migration: {} as never, stats: {} as never, planning: {} as never, operations: {} as never, nodes: {} as never, events: createEventBus(), doctor: async () => ({ checks: [] }),
  });
  try {
    return openApiDocument(api) as unknown as ApiDocument;
  } finally {
    await api.close();
  }
}

/** The page. @throws Error for a tag without a heading */
export function apiPage(document: ApiDocument): string {
  const routes = Object.entries(document.paths).flatMap(([path, verbs]) => Object.entries(verbs).map(([verb, operation]) => ({ path, method: verb.toUpperCase(), operation })));
  const strange = routes.find(({ operation }) => TAGS[operation.tags[0]!] === undefined);
  if (strange) throw new Error(`${strange.method} ${strange.path} has the tag ${strange.operation.tags[0]}, for which there is no heading`);
  return [
    head('HTTP API', 'the OpenAPI document (`/v1/openapi.json`)'),
    INTRODUCTION,
    ...Object.entries(TAGS).map(([tag, title]) => `**${title}:** ${routes.filter(({ operation }) => operation.tags[0] === tag).map(({ method, path }) => `[${method} ${path}](#${anchor(`${method} ${path}`)})`).join(', ')}\n`),
    ...Object.entries(TAGS).flatMap(([tag, title]) => [
      `## ${title}\n`, ...routes.filter(({ operation }) => operation.tags[0] === tag).map(({ method, path, operation }) => routeText(method, path, operation, document.components.schemas)),
    ]),
    '## Types\n',
    ...Object.entries(document.components.schemas).toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, schema]) => typeText(name, schema)),
  ].join('\n');
}

const INTRODUCTION = `The daemon speaks HTTP on a unix socket, \`/run/veld/veld.sock\`. Root and members of its group may use it, which equals root. It describes itself:

    curl --unix-socket /run/veld/veld.sock http://veld/v1/openapi.json

**Bodies** are JSON. What is not known is refused, in bodies, queries and paths.

**Errors** come as \`{"error": {"code", "message", "hint", "details"}}\`; [errors.md](errors.md) lists the codes. Each route may answer \`request.invalid\` (400), \`internal\` (500),
\`disk.full\`, \`daemon.stopping\` (503); those of its own are listed with it. The header \`x-request-id\` leads to the lines of the daemon's log.

**Operations.** What takes long answers 202 at once with an [Operation](#type-operation), to be looked at with GET /v1/operations/{id}. With \`?wait=1\` the answer is 200 and stays open: one record
a line whenever it changes, the last one ended. A client that goes away does not cancel.

**WebSockets**: /v1/events sends events, /v1/ves/{ve}/exec and /v1/sessions/{session} carry a command's streams. These need a client that can; \`veld events\` and \`veld exec\` are some.
`;

/** As GitHub makes them of headings. */
function anchor(heading: string): string {
  return heading.toLowerCase().replaceAll(/[^\w -]/g, '').replaceAll(' ', '-');
}

function routeText(method: string, path: string, operation: Operation, schemas: Record<string, Schema>): string {
  const parts = [`### ${method} ${path}\n`, `${[`${operation.summary}.`, operation.description].filter(Boolean).join(' ')}\n`];
  if (operation.parameters?.length) {
    parts.push(table(['Parameter', 'In', 'Type', 'Meaning'], operation.parameters.map(({ name, in: where, required, description, schema }) =>
      [`\`${name}\``, where, typeOf(schema), `${description ?? ''}${required && where !== 'path' ? ' (required)' : ''}`])));
  }
  const { schema: body, example: sent } = operation.requestBody?.content['application/json'] ?? {};
  const shape = body && resolve(body, schemas);
  if (body && Object.keys(shape?.properties ?? {}).length > 0) parts.push(`Body: ${typeOf(body)}\n`);
  parts.push(table(['Status', 'Answer'], Object.entries(operation.responses).flatMap(([status, answer]) => answerRow(status, answer))));
  parts.push(example(method, path, operation, sent));
  return parts.join('\n');
}

function answerRow(status: string, { description, content }: Answer): [string, string][] {
  const kinds = Object.entries(content ?? {});
  const codes = kinds[0]?.[1].schema['x-codes'];
  if (codes) {
    const own = codes.filter((code) => !COMMON.has(code));
    return own.length > 0 ? [[status, own.map((code) => `\`${code}\``).join(', ')]] : [];
  }
  const words = description === 'Default Response' ? '' : description;
  const type = kinds.map(([kind, { schema }]) => `${typeOf(schema)}${kind === 'application/json' ? '' : ` as ${kind}`}`).join(', or ');
  return [[status, [type, words].filter(Boolean).join(': ')]];
}

function example(method: string, path: string, operation: Operation, data: unknown): string {
  const url = `http://veld${path.replaceAll(/\{([\w*]+)\}/g, (_, name: string) => SAMPLES[name] ?? name)}`;
  if (operation.responses['101']) return `A WebSocket at \`${path}\`.\n`;
  const wait = operation.parameters?.some(({ name }) => name === 'wait') ? '?wait=1' : '';
  return `    curl --unix-socket /run/veld/veld.sock${method === 'GET' ? '' : ` -X ${method}`} ${quote(`${url}${wait}`)}${data === undefined ? '' : ` \\\n        -H 'Content-Type: application/json' -d '${JSON.stringify(data)}'`}\n`;
}

/** Where the shell would see more than a word. */
function quote(url: string): string {
  if (url.includes('$')) return `"${url}"`;
  return url.includes('?') ? `'${url}'` : url;
}

function typeText(name: string, schema: Schema): string {
  const rows = Object.entries(schema.properties ?? {}).map(([field, type]) => [`\`${field}\`${schema.required?.includes(field) === false ? ' (may be absent)' : ''}`, typeOf(type), type.description ?? '']);
  return [`### Type ${name}\n`, ...schema.description === undefined ? [] : [`${schema.description}.\n`], table(['Field', 'Type', 'Meaning'], rows)].join('\n');
}

/** A type in words. */
function typeOf(schema: Schema): string {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split('/').at(-1)!;
    return `[${name}](#${anchor(`type ${name}`)})`;
  }
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(' or ');
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => `\`${String(value)}\``).join(', ');
  if (schema.type === 'array') return `array of ${schema.items ? typeOf(schema.items) : 'anything'}`;
  if (schema.type === 'object') {
    const values = Object.values(schema.patternProperties ?? {})[0] ?? (typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined);
    if (schema.properties && Object.keys(schema.properties).length > 0) return `{ ${Object.entries(schema.properties).map(([name, type]) => `${name}: ${typeOf(type)}`).join('; ')} }`;
    return values === undefined ? 'object' : `object of ${typeOf(values)}`;
  }
  if (schema.type === 'integer' || schema.type === 'number') {
    const { minimum, maximum } = schema;
    const most = maximum === Number.MAX_SAFE_INTEGER ? undefined : maximum;
    if (minimum !== undefined && most !== undefined) return `${schema.type}, ${minimum} to ${most}`;
    return minimum === undefined ? schema.type : `${schema.type}, at least ${minimum}`;
  }
  return schema.type ?? 'anything';
}

function resolve(schema: Schema, schemas: Record<string, Schema>): Schema | undefined {
  return schema.$ref === undefined ? schema : schemas[schema.$ref.split('/').at(-1)!];
}
