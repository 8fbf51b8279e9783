/** Pieces of generated Markdown pages. */

/** Title, and where the page comes from. */
export function head(title: string, source: string): string {
  return `# ${title}\n\n<!-- Made by scripts/generate-docs.ts from ${source.replaceAll('`', '')}. Do not edit. -->\n`;
}

/** A table. */
export function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
  return `${line(titles)}| ${titles.map(() => '---').join(' | ')} |\n${rows.map(line).join('')}`;
}
