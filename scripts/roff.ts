/** Manual pages in the macros of man(7), from plain text in which `backticks` mark what is typed. */

/** One page under construction. */
export interface Page {
  section(title: string): Page;
  paragraph(text: string): Page;
  /** A term and, indented below it, what it means. */
  item(term: string, text: string): Page;
  /** Lines as they are, e.g. a command line. */
  verbatim(lines: readonly string[]): Page;
  /** The page's source. */
  text(): string;
}

export interface Title {
  name: string;
  /** 1 commands, 7 conventions, 8 administration. */
  section: 1 | 7 | 8;
  version: string;
  /** Made of what, for whoever looks into the file. */
  source: string;
}

/** Marks the files of Veld: whoever installs them may replace those that begin with it. */
export const MARK = '.\\" Manual page of Veld, ';

/** Begin a page. No date: the same source makes the same page. */
export function manPage({ name, section, version, source }: Title, summary: string): Page {
  const lines = [`${MARK}made by scripts/generate-man.ts of ${source}.`, `.TH ${quoted(name.toUpperCase())} ${section} "" ${quoted(`Veld ${version}`)} "Veld"`, '.nh', '.ad l', '.SH NAME',
    `${inline(name)} \\- ${inline(summary)}`];
  const page: Page = {
    section(title) {
      lines.push(`.SH ${quoted(title)}`);
      return page;
    },
    paragraph(text) {
      // A section begins a paragraph by itself.
      if (!lines.at(-1)!.startsWith('.SH')) lines.push('.PP');
      lines.push(line(text));
      return page;
    },
    item(term, text) {
      lines.push('.TP', `\\fB${inline(term)}\\fP`, line(text));
      return page;
    },
    verbatim(texts) {
      lines.push('.PP', '.RS 4', '.nf', ...texts.map(line), '.fi', '.RE');
      return page;
    },
    text: () => `${lines.join('\n')}\n`,
  };
  return page;
}

/** A whole line: what would be a request of roff is protected. */
function line(text: string): string {
  const roff = inline(text);
  return /^[.']/.test(roff) ? `\\&${roff}` : roff;
}

/** Text in a line. A hyphen is a minus, so that what is copied from the page is what must be typed. A word too long for a line may break at its commas. */
function inline(text: string): string {
  return text.split(' ').map((word) => (word.length < 40 ? escaped(word) : word.split(',').map(escaped).join(',\\:'))).join(' ').replaceAll(/`([^`]+)`/g, '\\fB$1\\fP');
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('~', '\\(ti').replaceAll('^', '\\(ha').replaceAll("'", '\\(aq')
    .replaceAll(/[^\x20-\x7e]/gu, (char) => `\\[u${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}]`);
}

function quoted(text: string): string {
  return `"${inline(text).replaceAll('"', '\\(dq')}"`;
}
