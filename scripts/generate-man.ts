/**
 * Makes the manual pages of the tables that help and reference are made of: veld(1), one for each command, veld-properties(7), veldd(8).
 *
 * They are not kept: `./quickstart` makes and installs them. `node scripts/generate-man.ts FOLDER` writes them to FOLDER/man1 and so on.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { GLOBAL_OPTIONS, GROUPS } from '../src/cli/command.ts';
import type { Command } from '../src/cli/command.ts';
import { exitStatuses, optionHelp, usageLine } from '../src/cli/help.ts';
import { CHANGES, defaultText, describeType } from '../src/cli/properties-help.ts';
import { loadAllCommands } from '../src/cli/table.ts';
import { ERRORS } from '../src/lib/errors.ts';
import { DEFAULT_SETTINGS_FILE, defaultSettings } from '../src/lib/settings.ts';
import { PROPERTIES } from '../src/spec/properties.ts';
import { manPage } from './roff.ts';

const VERSION = (JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8')) as { version: string }).version;

/** Path below a `man` folder (`man1/veld-create.1`) to content. */
export async function generateMan(): Promise<Record<string, string>> {
  const commands = await loadAllCommands();
  return {
    'man1/veld.1': overview(commands),
    ...Object.fromEntries(commands.map((command) => [`man1/${pageOf(command)}.1`, commandPage(command, commands)])),
    'man7/veld-properties.7': propertiesPage(),
    'man8/veldd.8': daemonPage(),
  };
}

const pageOf = ({ name }: Command): string => `veld-${name.replaceAll(' ', '-')}`;
const lower = (summary: string): string => (/^[A-Z][a-z]/.test(summary) ? summary[0]!.toLowerCase() + summary.slice(1) : summary);

function overview(commands: readonly Command[]): string {
  const page = manPage({ name: 'veld', section: 1, version: VERSION, source: 'the table of commands' }, 'divide a Linux server into virtual environments (VEs)')
    .section('SYNOPSIS').paragraph('`veld` [--json] [--socket path] command [options] [arguments]')
    .section('DESCRIPTION')
    .paragraph('A VE looks and behaves like a server of its own, with its own init, users, root, processes, addresses and limits, at the cost of a process tree. '
      + '`veld` asks the daemon veldd(8), which must run, over its socket. A VE is named by its name, its number or its UUID.')
    .paragraph('Each command has a page of its own: `veld template build` is explained in veld-template-build(1), and by `veld help template build`.');
  page.section('COMMANDS');
  for (const group of GROUPS) {
    const members = commands.filter((command) => command.group === group);
    if (members.length === 0) continue;
    page.paragraph(`${group}:`);
    for (const command of members) page.item(`${pageOf(command)}(1)`, `${command.summary}.`);
  }
  page.section('OPTIONS').paragraph('Every command takes these; they may also stand before its name.');
  for (const option of GLOBAL_OPTIONS) page.item(option.flags, `${optionHelp(option)}.`);
  return page.section('ENVIRONMENT')
    .item('VELD_SOCKET', 'Socket of the daemon, where --socket is not given.')
    .item('VELD_NODE', 'Node on which to work, where --node is not given. Commands about this host do not look at it.')
    .item('VELD_SETTINGS', `Settings file in which the socket is looked up otherwise; default ${DEFAULT_SETTINGS_FILE}.`)
    .item('NO_COLOR', 'No colours, also on a terminal.')
    .section('EXIT STATUS')
    .paragraph('0 when done, 130 when left by a second Ctrl-C, 141 when the reader of the output went away; otherwise that of the error. Errors go to standard error, with --json as one object '
      + 'with code, message, hint and details.')
    .paragraph(statuses().join('; ') + '.')
    .section('SEE ALSO').paragraph('veld-properties(7), veldd(8)').text();
}

/** Exit statuses with the codes that end so. */
function statuses(): string[] {
  const codes = new Map<number, string[]>();
  for (const [code, { exit }] of Object.entries(ERRORS)) codes.set(exit, [...codes.get(exit) ?? [], code]);
  return [...codes].sort(([a], [b]) => a - b).map(([exit, names]) => `${exit} ${names.join(', ')}`);
}

function commandPage(command: Command, commands: readonly Command[]): string {
  const page = manPage({ name: pageOf(command), section: 1, version: VERSION, source: 'the table of commands' }, lower(command.summary))
    .section('SYNOPSIS').paragraph(usageLine(command).replace(`veld ${command.name}`, `\`veld ${command.name}\``))
    .section('DESCRIPTION').paragraph(`${command.summary}.`);
  for (const paragraph of command.description ?? []) page.paragraph(paragraph);
  if (command.args?.length) page.section('ARGUMENTS');
  for (const { name, help, choices } of command.args ?? []) page.item(name, `${help}${choices ? ` (one of ${choices.join(', ')})` : ''}.`);
  page.section('OPTIONS');
  for (const option of [...command.options ?? [], ...GLOBAL_OPTIONS]) page.item(option.flags, `${optionHelp(option)}.`);
  if (command.json !== undefined) page.section('OUTPUT').paragraph(`With --json: ${command.json}.`);
  page.section('EXIT STATUS');
  for (const [status, meaning] of exitStatuses(command)) page.item(status, `${meaning}.`);
  if (command.examples?.length) page.section('EXAMPLES');
  for (const [line, does] of command.examples ?? []) page.paragraph(`${does}:`).verbatim([`veld ${line}`]);
  const relatives = commands.filter((other) => other !== command && other.name.split(' ')[0] === command.name.split(' ')[0]).map((other) => `${pageOf(other)}(1)`);
  return page.section('SEE ALSO').paragraph(['veld(1)', ...relatives, 'veld-properties(7)'].join(', ')).text();
}

function propertiesPage(): string {
  const page = manPage({ name: 'veld-properties', section: 7, version: VERSION, source: 'the table of properties' }, 'what can be set of a VE')
    .section('DESCRIPTION')
    .paragraph('Set with `veld create --set NAME=VALUE` and `veld set VE NAME=VALUE`, given back to their default with `veld set VE --unset NAME`, shown by `veld show --properties VE`.')
    .section('PROPERTIES');
  for (const row of PROPERTIES) {
    page.item(row.name, [
      row.help, `Values: ${describeType(row.type)}.`, `Default: ${defaultText(row)}.`, `Changes ${CHANGES[row.change]}.`,
      ...row.needs === undefined ? [] : [`Needs ${row.needs}.`], ...row.vzctl ? [`In OpenVZ: --${row.vzctl.option}, ${row.vzctl.key}.`] : [],
    ].join(' '));
  }
  return page.section('SEE ALSO').paragraph('veld-set(1), veld-create(1), veld-show(1)').text();
}

function daemonPage(): string {
  const { stateDir, runDir, socket, log } = defaultSettings();
  return manPage({ name: 'veldd', section: 8, version: VERSION, source: 'the defaults of the settings' }, 'daemon of Veld')
    .section('SYNOPSIS').paragraph('`veldd` [--settings FILE] [--records] [--version] [--help]')
    .section('DESCRIPTION')
    .paragraph('Makes, starts, stops and watches virtual environments (VEs) for veld(1) and for programs that use its HTTP API. It runs as root, usually as `veldd.service`.')
    .paragraph('VEs do not need it to live: they go on while it is stopped, killed or upgraded, and can reboot meanwhile. A new daemon adopts what runs and mends what was interrupted.')
    .section('OPTIONS')
    .item('--settings FILE', `Settings file; default $VELD_SETTINGS, else ${DEFAULT_SETTINGS_FILE}. It need not exist.`)
    .item('--records', 'Print what the store holds (VEs, templates, layers, the newest operations, the journal) as JSON, whether a daemon runs or not, and end.')
    .item('-V, --version', 'Print the version.')
    .item('-h, --help', 'Print a summary.')
    .section('SIGNALS')
    .item('SIGTERM, SIGINT', 'Stop: operations under way end or are rolled back. A second one ends it at once.')
    .item('SIGHUP', 'Open the log file anew.')
    .section('FILES')
    .item(DEFAULT_SETTINGS_FILE, 'Settings, JSON.')
    .item(stateDir, 'Database, templates, layers, disks of VEs, engines. Mode 0700.')
    .item(runDir, 'State of this boot of the host.')
    .item(socket, 'Socket of the API, for root and the group veld. Whoever may use it is root on this host.')
    .item(log.file, 'Log, JSON lines, bounded in size.')
    .section('SEE ALSO').paragraph('veld(1), veld-doctor(1), veld-properties(7)').text();
}

if (import.meta.main) {
  const folder = process.argv[2];
  if (folder === undefined) {
    process.stderr.write('Usage: node scripts/generate-man.ts FOLDER\n');
    process.exit(2);
  }
  for (const [name, content] of Object.entries(await generateMan())) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
}
