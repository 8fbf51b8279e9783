/** Words of a command line as text: quoted as a POSIX shell does, with `$'...'` for lines and tabs; nothing is expanded. */

/** What stands for what behind a backslash in `$'...'`. */
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', '\\': '\\', "'": "'" };

/**
 * Split a text into words.
 * @returns undefined when a quote is not closed, a backslash has nothing behind it, or an escape is not one of `\n \t \\ \'`
 */
export function splitWords(text: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (char === ' ') {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (char === '\\') {
      if (++i === text.length) return undefined;
      word = (word ?? '') + text[i]!;
    } else if (char === '\'' || char === '"' || (char === '$' && text[i + 1] === '\'')) {
      const quoted = readQuoted(text, char === '$' ? i + 1 : i, char);
      if (quoted === undefined) return undefined;
      word = (word ?? '') + quoted.text;
      i = quoted.end;
    } else word = (word ?? '') + char;
  }
  if (word !== undefined) words.push(word);
  return words;
}

/** @param at where the quote opens @param kind `'`, `"`, or `$` for `$'` @returns the content, and where the quote closes */
function readQuoted(text: string, at: number, kind: string): { text: string; end: number } | undefined {
  const close = kind === '"' ? '"' : "'";
  let content = '';
  for (let i = at + 1; i < text.length; i++) {
    const char = text[i]!;
    if (char === close) return { text: content, end: i };
    if (char !== '\\' || kind === "'") {
      content += char;
      continue;
    }
    const next = text[++i];
    if (next === undefined) return undefined;
    if (kind === '"') content += next === '"' || next === '\\' || next === '$' || next === '`' ? next : `\\${next}`;
    else if (Object.hasOwn(ESCAPES, next)) content += ESCAPES[next]!;
    else return undefined;
  }
  return undefined;
}

/** Words as text that {@link splitWords} reads again; `auto` and `none` alone are quoted, since they mean something else. */
export function formatWords(words: readonly string[]): string {
  return words.map((word) => {
    if (/[\n\t]/.test(word)) return `$'${word.replace(/[\\']/g, '\\$&').replaceAll('\n', '\\n').replaceAll('\t', '\\t')}'`;
    if (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word) && !(words.length === 1 && /^(auto|none)$/.test(word))) return word;
    return `'${word.replaceAll("'", "'\\''")}'`;
  }).join(' ');
}
