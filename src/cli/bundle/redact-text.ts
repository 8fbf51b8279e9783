/**
 * Takes out of a text what looks like a secret. A net below the choice of what is gathered at all (items.ts), not instead of it: what a bundle
 * holds was chosen so that there should be none.
 */
import { LAST_WORDS } from '../../lib/last-words.ts';

const GONE = '[redacted]';

/** Words that a name of something secret holds. */
const WORD = '(?:passw(?:or)?d|passphrase|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key)';
/** A text in quotes (of JSON in JSON, too), or one without blanks. Every repetition is bounded: a hostile text must not cost more than its length. */
const VALUE = '(?:(\\\\{0,7}["\'])[^]{0,8000}?(?<!\\\\)\\2|[^\\s"\',;&}\\\\]{1,8000})';
const ASSIGN = '[\\w-]{0,40}(?:\\\\{0,7}["\'])?\\s{0,8}[=:]\\s{0,8}';

/** What is looked for, and what stays of it. */
const RULES: readonly (readonly [pattern: RegExp, stays: string])[] = [
  // A private key in PEM, also within JSON, also when its end was cut off.
  [/-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----[^]*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|(?=")|$)/g, GONE],
  // https://user:password@host
  [/([a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/@"'<>:]{0,200}:[^\s/@"'<>]{0,1000}@/gi, `$1${GONE}@`],
  [/\b(bearer\s{1,4})[A-Za-z0-9._~+/=-]{6,8000}/gi, `$1${GONE}`],
  // To the end of the line or the quotes: a scheme comes before the secret, cookies are many.
  [/((?:authorization|cookie)\\{0,7}["']?\s{0,8}[=:]\s{0,8}\\{0,7}["']?)[^\n"'\\]{1,8000}/gi, `$1${GONE}`],
  // password=x, "password": "x", \"password\":\"x\", password: x, PASSWORD='x'
  [new RegExp(`(${WORD}${ASSIGN})${VALUE}`, 'gi'), `$1$2${GONE}$2`],
  [new RegExp(`(--[\\w-]{0,40}${WORD}[\\w-]{0,40}\\s{1,4})\\S{1,8000}`, 'gi'), `$1${GONE}`],
  // What a VE said last is a part of its console.
  [new RegExp(`(${LAST_WORDS} )(?:\\\\.|[^"\\\\\\n])*`, 'g'), '$1[left out: see --console-logs]'],
];

/** The text without what looks like a secret. */
export function redactText(text: string): string {
  return RULES.reduce((rest, [pattern, stays]) => rest.replace(pattern, stays), text);
}
