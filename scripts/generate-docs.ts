/**
 * Writes the reference pages that are made from tables: commands, properties, errors, the API, metrics; and tables into three pages that explain: what belongs to a VE, beancounters, and
 * what limits were seen to hold.
 *
 * `node scripts/generate-docs.ts` writes them; the test beside this file compares them with what the tables say now.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createMetrics } from '../src/api/metrics.ts';
import { GLOBAL_OPTIONS, GROUPS } from '../src/cli/command.ts';
import type { Command } from '../src/cli/command.ts';
import { exitStatuses, optionHelp, usageLine } from '../src/cli/help.ts';
import { CHANGES, defaultText, describeType } from '../src/cli/properties-help.ts';
import { loadAllCommands } from '../src/cli/table.ts';
import { belongings } from '../src/migration/belongings.ts';
import { ERRORS, HTTP_STATUS } from '../src/lib/errors.ts';
import { createEventBus } from '../src/ops/events.ts';
import { capacityOf } from '../src/resources/capacity.ts';
import { BEANCOUNTERS } from '../src/spec/beancounters/table.ts';
import { PROPERTIES } from '../src/spec/properties.ts';
import { apiDocument, apiPage } from './api-page.ts';
import { limitsTable } from './limits-table.ts';
import { head, table } from './markdown.ts';

/** Where the pages lie. */
export const REFERENCE = join(import.meta.dirname, '../docs/reference');

/** File name to content of all generated pages. */
export async function generateDocs(): Promise<Record<string, string>> {
  return { 'commands.md': commandsPage(await loadAllCommands()), 'properties.md': propertiesPage(), 'errors.md': errorsPage(), 'api.md': apiPage(await apiDocument()), 'metrics.md': await metricsPage() };
}

function commandsPage(commands: readonly Command[]): string {
  const anchor = (name: string): string => `#veld-${name.replaceAll(' ', '-')}`;
  const index = GROUPS.map((group) => `**${group}:** ${commands.filter((c) => c.group === group).map((c) => `[${c.name}](${anchor(c.name)})`).join(', ')}\n`);
  const sections = GROUPS.flatMap((group) => commands.filter((c) => c.group === group)).map((c) => [
    `## veld ${c.name}\n`,
    `${c.summary}. ${(c.description ?? []).join(' ')}`.trimEnd() + '\n',
    `    ${usageLine(c)}\n`,
    ...c.args?.length ? [table(['Argument', 'Meaning'], c.args.map((a) => [`\`${a.name}\``, a.help]))] : [],
    ...c.options?.length ? [table(['Option', 'Meaning'], c.options.map((o) => [`\`${o.flags}\``, optionHelp(o)]))] : [],
    ...c.examples?.length ? [`Examples:\n\n${c.examples.map(([line, does]) => `    veld ${line}\n        ${does}`).join('\n')}\n`] : [],
    ...c.json === undefined ? [] : [`With \`--json\`: ${c.json}.\n`],
    `Exit status: ${exitStatuses(c).map(([status, meaning]) => `${status} ${meaning}`).join('; ')}.\n`,
  ].join('\n'));
  return [
    head('Commands', 'the table of commands (`src/cli/commands/`)'),
    'Every command takes these options; they may also stand before its name:\n',
    table(['Option', 'Meaning'], GLOBAL_OPTIONS.map((o) => [`\`${o.flags}\``, o.help])),
    'Tables are for people: aligned, cut to the width of a terminal, coloured only there and only without `NO_COLOR`. Programs use `--json`.',
    'A VE is named by its name, its number or its UUID. Errors go to standard error as `veld: MESSAGE` and a hint, with `--json` as one',
    'JSON object `{"code", "message", "hint", "details"}`; [errors.md](errors.md) lists codes and exit statuses. A command that works on',
    'several VEs tells each failure and ends with the status of the first. Ctrl-C asks the daemon to cancel the operation and waits until',
    'it is undone (status 28); a second Ctrl-C leaves at once (status 130).\n',
    ...index,
    ...sections,
  ].join('\n');
}

function propertiesPage(): string {
  return [
    head('Properties', 'the property table (`src/spec/properties.ts`)'),
    'Set with `veld create --set NAME=VALUE` and `veld set VE NAME=VALUE`, given back to their default with `veld set VE --unset NAME`.\n',
    table(['Property', 'Meaning', 'Values', 'Default', 'Changes', 'vzctl'], PROPERTIES.map((row) => [
      `\`${row.name}\``, `${row.help}${row.needs === undefined ? '' : ` Needs ${row.needs}.`}`, describeType(row.type), defaultText(row), CHANGES[row.change],
      row.vzctl ? `\`--${row.vzctl.option}\`, \`${row.vzctl.key}\`` : '',
    ])),
  ].join('\n');
}

function errorsPage(): string {
  const rows = Object.entries(ERRORS).sort(([, a], [, b]) => a.exit - b.exit);
  return [
    head('Errors and exit statuses', 'the error table (`src/lib/errors.ts`)'),
    'Every failure has a code. Programs match on codes: they do not change. The API answers `{"error": {"code", "message", "hint", "details"}}` with the',
    'HTTP status given here; `veld` ends with the exit status. `veld exec` ends with the status of its command, when that was started.\n',
    table(['Exit', 'Code', 'HTTP', 'Kind', 'What to do'], rows.map(([code, row]) => [String(row.exit), `\`${code}\``, String(HTTP_STATUS[row.kind]), row.kind.replace('_', ' '), row.hint])),
    'Besides: 0 done; 130 left by a second Ctrl-C; 141 the reader of the output went away.\n',
  ].join('\n');
}

/** Families as they are told of in the document itself, which has them also where nothing is measured. */
async function metricsPage(): Promise<string> {
  const metrics = createMetrics({ manager: { usage: () => ({ ves: [] }) as never, traffic: async () => ({ classes: [], ves: [] }) }, stats: { last: () => undefined }, planning: { capacity: () => capacityOf({ cpus: 0, memoryBytes: 0, availableBytes: 0, swapBytes: 0, diskBytes: 0, diskFreeBytes: 0 }, []) }, events: createEventBus(), version: '', instance: '' });
  const families = [...(await metrics.render()).matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)$/gm)];
  metrics.close();
  return [
    head('Metrics', 'the families of `src/api/metrics.ts`'),
    '`GET /metrics` on the socket of the API, in the text format of Prometheus (0.0.4). Whoever may use the API may read it, and nobody else. Names and labels are',
    'stable. Families of VEs have the labels `ve` (its name) and `number`; what a host does not count is left out. Counters of a VE begin anew when it is started, those by class of network (label `class`) never.\n',
    table(['Name', 'Type', 'Meaning'], families.map(([, name, help, type]) => [`\`${name}\``, type!, help!])),
  ].join('\n');
}

/** The page into which the table of what belongs to a VE is written. */
export const MIGRATION = join(import.meta.dirname, '../docs/explanation/migration.md');

/** The page into which the table of beancounters is written. */
export const BEANCOUNTERS_PAGE = join(import.meta.dirname, '../docs/explanation/beancounters.md');

/** That page with the table as it is now. */
export function migrationPage(): string {
  return pageWith(MIGRATION, table(['What', 'Names', 'How', 'More'], belongings()));
}

/** The same for the one on beancounters. */
export function beancountersPage(): string {
  const hosts = ({ v2, hybrid }: { v2: string; hybrid: string }): string => (v2 === hybrid ? v2 : [v2 && `v2: ${v2}`, hybrid && `hybrid: ${hybrid}`].filter(Boolean).join('; ')) || 'no';
  return pageWith(BEANCOUNTERS_PAGE, table(['Beancounter', 'Unit', 'Counts', 'Rank', 'Counted by', 'Held by', 'Remarks'], BEANCOUNTERS.filter(({ name }) => name !== 'dummy').map((row) => [
    row.name, row.unit, row.help, row.rank, hosts(row.counted), hosts(row.held), row.note ?? '',
  ])));
}

/** The page into which is written what limits were seen to hold. */
export const LIMITS = join(import.meta.dirname, '../docs/explanation/limits.md');

/** That page with the table of the record as it is now. */
export function limitsPage(): string {
  return pageWith(LIMITS, limitsTable());
}

/** A page with what is made for it in its place. */
function pageWith(file: string, made: string): string {
  const [before, rest = ''] = readFileSync(file, 'utf8').split(/(?<=<!-- Made by .* -->\n\n)/);
  const end = rest.indexOf('\n<!-- Made until here. -->');
  if (end < 0) throw new Error(`${file} has no place for the table that is made for it`);
  return before! + made + rest.slice(end);
}

if (import.meta.main) {
  writeFileSync(MIGRATION, migrationPage());
  writeFileSync(BEANCOUNTERS_PAGE, beancountersPage());
  writeFileSync(LIMITS, limitsPage());
  for (const [name, content] of Object.entries(await generateDocs())) writeFileSync(join(REFERENCE, name), content);
}
