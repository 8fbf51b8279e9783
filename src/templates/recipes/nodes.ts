/**
 * Reads a YAML document (1.2, core schema) piece by piece, and says of what is wrong in which line it stands. Anchors and aliases are refused, and with them all
 * that grows when it is read; so are tags, keys that nobody asked for, and keys that stand twice.
 */
import { isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument, visit, type Node, type YAMLMap } from 'yaml';
import { VeldError } from '../../lib/errors.ts';

/** Most characters of a recipe. */
export const MOST_TEXT = 256 << 10;
/** How deep lists and mappings may lie in each other: more than any recipe needs. */
const DEEPEST = 12;

/** A value of the document, and how it is called in errors: `users[0].name`. */
export interface Place {
  node: Node | null;
  path: string;
}

export interface Reader {
  root: Place;
  /** Line of a value, from 1. */
  lineOf: (place: Place) => number;
  /** @throws VeldError `recipe.invalid` */
  refuse: (place: Place, why: string) => never;
  /** A mapping with some of these keys. Absent ones are undefined; a null counts as absent. */
  map<K extends string>(place: Place, keys: readonly K[]): Partial<Record<K, Place>>;
  list(place: Place, most: number): Place[];
  /** Text of at most so many characters, none of them a control character but those of a text of several lines where that is asked for. */
  text(place: Place, most: number, lines?: 'lines'): string;
  flag(place: Place): boolean;
  integer(place: Place, least: number, most: number): number;
}

/** @param file named in errors @throws VeldError `recipe.invalid` for what is no YAML, or has anchors, aliases or tags */
export function readDocument(text: string, file: string): Reader {
  const invalid = (line: number | undefined, why: string): VeldError => new VeldError('recipe.invalid', `${file}${line === undefined ? '' : `:${line}`}: ${why}.`, { details: { file, ...line !== undefined && { line } } });
  if (text.length > MOST_TEXT) throw invalid(undefined, `it has more than ${MOST_TEXT >> 10} KiB`);
  // The composer goes down by calls of itself: what lies too deep must not reach it. (Blocks lie as deep as they are indented.)
  const deepest = Math.max(0, ...text.split('\n').map((line) => /^[ -]*/.exec(line)![0].length));
  let [open, most] = [0, 0];
  for (const sign of text) {
    if (sign === '[' || sign === '{') most = Math.max(most, open += 1);
    else if (sign === ']' || sign === '}') open = Math.max(0, open - 1);
  }
  if (deepest > 1000 || most > 1000) throw invalid(undefined, 'lists or mappings in it lie too deep in each other');
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, strict: true, uniqueKeys: true, merge: false, schema: 'core', version: '1.2', stringKeys: true });
  const at = (offset: number): number => lines.linePos(offset).line;
  const wrong = document.errors[0] ?? document.warnings[0];
  if (wrong) throw invalid(at(wrong.pos[0]), `this is no YAML: ${wrong.message.replace(/\.$/, '')}`);
  visit(document, (_key, node, parents) => {
    if (!isNode(node)) return;
    const line = at(node.range?.[0] ?? 0);
    if (isAlias(node) || (node as { anchor?: string }).anchor !== undefined) throw invalid(line, 'anchors and aliases are not taken');
    if (parents.length > 2 * DEEPEST) throw invalid(line, 'this lies too deep');
    if (node.tag !== undefined && !/^tag:yaml\.org,2002:(map|seq|str|int|bool|null|float)$/.test(node.tag)) throw invalid(line, `the tag ${node.tag} is not taken`);
  });
  const lineOf = ({ node }: Place): number => at(node?.range?.[0] ?? 0);
  const refuse = (place: Place, why: string): never => { throw invalid(lineOf(place), `${place.path === '' ? 'it' : place.path} ${why}`); };
  const pairs = (node: YAMLMap): [key: Node, value: Node | null][] => node.items.map((pair) => [pair.key as Node, pair.value as Node | null]);
  return {
    root: { node: document.contents, path: '' },
    lineOf,
    refuse,
    map<K extends string>(place: Place, keys: readonly K[]) {
      if (!isMap(place.node)) return refuse(place, 'must be a mapping (KEY: VALUE lines)');
      const found: Partial<Record<K, Place>> = {};
      for (const [key, value] of pairs(place.node)) {
        const name = isScalar(key) ? String(key.value) : '';
        const known = keys.find((one) => one === name);
        const path = place.path === '' ? name : `${place.path}.${name}`;
        if (known === undefined) throw invalid(lineOf({ node: key, path }), `there is no key ${JSON.stringify(name.slice(0, 80))}${place.path === '' ? '' : ` in ${place.path}`}; keys are ${keys.join(', ')}`);
        if (value !== null && !(isScalar(value) && value.value === null)) found[known] = { node: value, path };
      }
      return found;
    },
    list(place, most) {
      if (!isSeq(place.node)) return refuse(place, 'must be a list');
      if (place.node.items.length > most) return refuse(place, `has more than ${most} entries`);
      return place.node.items.map((item, i) => ({ node: item as Node | null, path: `${place.path}[${i}]` }));
    },
    text(place, most, several) {
      const value = isScalar(place.node) ? place.node.value : undefined;
      if (typeof value !== 'string') return refuse(place, isScalar(place.node) && value !== null ? `must be text: quote it, "${place.node.source ?? ''}"` : 'must be text');
      if (value.length > most) return refuse(place, `has more than ${most} characters`);
      if ((several ? /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/ : /[\0-\x1f\x7f]/).test(value)) return refuse(place, 'holds control characters');
      return value;
    },
    flag(place) {
      const value = isScalar(place.node) ? place.node.value : undefined;
      return typeof value === 'boolean' ? value : refuse(place, 'must be true or false');
    },
    integer(place, least, most) {
      const value = isScalar(place.node) ? place.node.value : undefined;
      return typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most ? value : refuse(place, `must be a whole number from ${least} to ${most}`);
    },
  };
}
