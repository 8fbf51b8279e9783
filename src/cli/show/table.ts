/** Aligned tables and lists of facts for people. */
import { sanitise } from './text.ts';

export interface Column {
  title: string;
  /** Numbers stand at the right. */
  right?: boolean;
  /** May be cut with an ellipsis when the line does not fit the terminal. */
  shrink?: boolean;
  /** Colour of a cell by its text. */
  paint?: (text: string) => string;
}

export interface TableStyle {
  /** Columns of the terminal; Infinity: as wide as it needs. */
  width: number;
  colour: boolean;
}

const GAP = '  ';
/** No shrinking column becomes narrower. */
const NARROWEST = 6;

/** Lay out rows under their titles. Every line ends with a newline; the last column has no padding. */
export function layoutTable(columns: readonly Column[], rows: readonly (readonly string[])[], style: TableStyle): string {
  const lines = [columns.map((c) => c.title), ...rows.map((row) => columns.map((_, i) => oneLine(row[i] ?? '')))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => displayWidth(line[i]!))));
  fit(columns, widths, style.width);
  return lines.map((line, number) => `${line.map((cell, i) => {
    const column = columns[i]!;
    const cut = truncate(cell, widths[i]!);
    const padding = ' '.repeat(widths[i]! - displayWidth(cut));
    let text = cut;
    if (style.colour) text = number === 0 ? `\x1b[1m${cut}\x1b[22m` : column.paint?.(cut) ?? cut;
    if (column.right) return padding + text;
    return i === columns.length - 1 ? text : text + padding;
  }).join(GAP).trimEnd()}\n`).join('');
}

/** `Title:  value` lines, values aligned; rows whose value is undefined are left out. */
export function layoutFacts(facts: readonly (readonly [title: string, value: string | undefined])[], style: Pick<TableStyle, 'colour'>): string {
  const shown = facts.filter((fact): fact is readonly [string, string] => fact[1] !== undefined);
  const width = Math.max(0, ...shown.map(([title]) => displayWidth(title))) + 1;
  return shown.map(([title, value]) => {
    const label = `${title}:`.padEnd(width + 1);
    return `${style.colour ? `\x1b[1m${label}\x1b[22m` : label} ${oneLine(value)}`.trimEnd() + '\n';
  }).join('');
}

/** Colours of a VE's status and of an operation's state. */
export function paintStatus(text: string): string {
  const colour = STATUS_COLOURS[text];
  return colour === undefined ? text : `\x1b[${colour}m${text}\x1b[39m`;
}

const STATUS_COLOURS: Record<string, number> = {
  running: 32, succeeded: 32, ok: 32, starting: 33, stopping: 33, frozen: 36, suspended: 36, warning: 33, failed: 31, interrupted: 31, fail: 31, cancelled: 33, stopped: 90,
};

/** Columns that a text takes on a terminal: combining marks none, East Asian wide characters and emoji two. */
export function displayWidth(text: string): number {
  // eslint-disable-next-line no-control-regex
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const char of text) {
    if (/\p{Mark}|\u200b|\u200d|\ufe0f/u.test(char)) continue;
    width += /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u.test(char) ? 2 : 1;
  }
  return width;
}

/** Cut to `width` columns, the last of them an ellipsis. */
export function truncate(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let result = '';
  let used = 0;
  for (const char of text) {
    const w = displayWidth(char);
    if (used + w > width - 1) break;
    result += char;
    used += w;
  }
  return `${result}…`;
}

/** Take columns away from the widest shrinking cells until the line fits; when nothing can shrink any more the terminal wraps. */
function fit(columns: readonly Column[], widths: number[], limit: number): void {
  let excess = widths.reduce((sum, w) => sum + w, 0) + GAP.length * (columns.length - 1) - limit;
  while (excess > 0) {
    let widest = -1;
    columns.forEach((column, i) => {
      if (column.shrink && widths[i]! > NARROWEST && (widest === -1 || widths[i]! > widths[widest]!)) widest = i;
    });
    if (widest === -1) return;
    widths[widest]! -= 1;
    excess -= 1;
  }
}

function oneLine(text: string): string {
  return sanitise(text).replace(/\s*\n\s*/g, ' ').replaceAll('\t', ' ');
}
