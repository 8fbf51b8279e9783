/** JSON schemas (2020-12) of properties, made from the table: for the OpenAPI document, and as the first coarse check of a request. */
import { PROPERTIES } from './properties.ts';
import type { PropertyRow } from './types.ts';
import { describeType, itemLength } from './values.ts';

/** A JSON schema; plain data, so that it fits any validator. */
export interface JsonSchema {
  [key: string]: unknown;
}

/** Longest text that a request may give for a value, in characters. */
const MAX_INPUT = 8192;

/** The same for command lines and environments. */
const MAX_WORDS = 65_536;

/** Schema of the canonical value, as answers hold it. */
export function valueSchema(row: PropertyRow): JsonSchema {
  const schema = plainSchema(row);
  const nullable = row.default === null || ('unlimited' in row.type && row.type.unlimited === true);
  return { ...(nullable ? { anyOf: [schema, { type: 'null' }] } : schema), description: row.help, default: row.default };
}

/** Schema of what a request may give: the canonical value, or text that the property's parser reads; null unsets. */
export function inputSchema(row: PropertyRow): JsonSchema {
  const text = { type: 'string', maxLength: row.type.kind === 'words' ? MAX_WORDS : MAX_INPUT };
  const wide = row.type.kind === 'list' || row.type.kind === 'words' ? [{ type: 'array', items: text, maxItems: row.type.maxItems }]
    : row.type.kind === 'boolean' ? [{ type: 'boolean' }]
      : row.type.kind === 'text' || row.type.kind === 'choice' ? []
        : row.type.kind === 'pair' || row.type.kind === 'quota' ? [{ type: 'number' }, plainSchema(row)]
          : [{ type: 'number' }];
  return { anyOf: [...wide, text, { type: 'null' }], description: `${row.help} Accepted: ${describeType(row)}.` };
}

/** Schema of all properties of a VE, every one there (the type `Properties`). */
export function resolvedSchema(): JsonSchema {
  return {
    type: 'object',
    additionalProperties: false,
    required: PROPERTIES.map((row) => row.name),
    properties: Object.fromEntries(PROPERTIES.map((row) => [row.name, valueSchema(row)])),
  };
}

/**
 * Schema of the properties in a request to create or change a VE. Unknown names are let through on purpose: the table's own check
 * answers them with `property.unknown` and the name that was probably meant.
 */
export function changesSchema(): JsonSchema {
  return { type: 'object', maxProperties: 200, properties: Object.fromEntries(PROPERTIES.map((row) => [row.name, inputSchema(row)])) };
}

function plainSchema({ type }: PropertyRow): JsonSchema {
  switch (type.kind) {
    case 'boolean': return { type: 'boolean' };
    case 'integer':
    case 'percent':
    case 'seconds': return { type: 'integer', minimum: type.min, maximum: type.max };
    case 'pair': {
      const amount = { anyOf: [{ type: 'integer', minimum: type.min, maximum: type.max }, { type: 'null' }] };
      return { type: 'object', additionalProperties: false, required: ['barrier', 'limit'], properties: { barrier: amount, limit: amount } };
    }
    case 'quota': {
      const amount = { anyOf: [{ type: 'integer', minimum: type.min, maximum: Number.MAX_SAFE_INTEGER }, { type: 'null' }] };
      return { type: 'object', additionalProperties: false, required: ['soft', 'hard'], properties: { soft: amount, hard: amount } };
    }
    case 'rate':
    case 'bytes': return { type: 'integer', minimum: type.min, maximum: Number.MAX_SAFE_INTEGER };
    case 'ranges': return { type: 'string', maxLength: MAX_INPUT, pattern: '^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$' };
    case 'choice': return { type: 'string', enum: [...type.choices] };
    case 'text': return { type: 'string', maxLength: type.maxLength, ...(type.pattern && { pattern: type.pattern.source }) };
    case 'words': return { type: 'array', items: { type: 'string', maxLength: type.maxLength, ...(type.form && { pattern: type.form.source }) }, maxItems: type.maxItems };
    default: return { type: 'array', items: { type: 'string', maxLength: itemLength(type.item) }, maxItems: type.maxItems, uniqueItems: true };
  }
}
