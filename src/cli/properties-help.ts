/** `veld help properties`, from the property table. */
import { PROPERTIES, findProperty, formatProperty } from '../spec/properties.ts';
import { INTERFACE_HELP } from '../spec/interfaces.ts';
import type { ListItem, PropertyRow, PropertyType } from '../spec/types.ts';
import { wrap } from './help.ts';

/** What a property's values look like, in words. */
export function describeType(type: PropertyType): string {
  switch (type.kind) {
    case 'boolean': return 'on or off';
    case 'integer': return `${type.min} to ${type.max}${type.unit === undefined ? '' : ` ${type.unit}`}${type.unlimited ? ', or unlimited' : ''}`;
    case 'bytes': return `a size such as 512M or 2G${type.unlimited ? ', or unlimited' : ''}`;
    case 'percent': return `${type.min}% to ${type.max}% of one CPU${type.unlimited ? ', or unlimited' : ''}`;
    case 'rate': return `a rate such as 10mbit${type.unlimited ? ', or unlimited' : ''}`;
    case 'pair': return `BARRIER:LIMIT${type.equal ? ', two equal numbers' : ''} or one number, from ${type.min}; or unlimited`;
    case 'quota': return `SOFT:HARD or one limit, such as ${type.of === 'bytes' ? '9G:10G' : '90000:100000'}; or unlimited`;
    case 'seconds': return `a duration such as 30s or 5m, ${type.min} to ${type.max} s`;
    case 'ranges': return `${type.what} such as 0-3,8`;
    case 'choice': return type.choices.join(', ');
    case 'text': return type.patternHelp ?? `text of at most ${type.maxLength} characters`;
    case 'words': return type.formHelp === undefined ? 'a command line, quoted as in a shell' : `${type.formHelp}, several separated by spaces, quoted as in a shell`;
    default: return `up to ${type.maxItems} ${LISTS[type.item]}, separated by ${type.item === 'interface' ? 'spaces' : 'commas'}`;
  }
}

const LISTS: Record<ListItem, string> = {
  address: 'addresses', resolver: 'addresses', domain: 'domains', gateway: 'addresses', prefix: 'prefixes', interface: `interfaces ${INTERFACE_HELP}`,
  publish: 'HOSTPORT:PORT items', rule: 'rules', mount: 'HOST:INSIDE items',
};

/** When a change takes effect, in words. */
export const CHANGES: Record<PropertyRow['change'], string> = {
  live: 'at once', restart: 'at the next start', create: 'only when the VE is made',
};

/**
 * All properties, or one.
 * @throws VeldError `property.unknown`
 */
export function propertiesHelp(name: string | undefined, style: { width: number; colour: boolean }): string {
  const rows = name === undefined ? PROPERTIES : [findProperty(name)];
  const width = Math.min(style.width, 100);
  const parts = rows.map((row) => {
    const title = style.colour ? `\x1b[1m${row.name}\x1b[22m` : row.name;
    const facts = [`${describeType(row.type)}; default ${defaultText(row)}; changes ${CHANGES[row.change]}`];
    if (row.vzctl) facts.push(`vzctl: --${row.vzctl.option}, ${row.vzctl.key}`);
    if (row.needs !== undefined) facts.push(`needs ${row.needs}`);
    return `${title}\n${wrap(row.help, width, '    ')}${facts.map((fact) => wrap(fact, width, '    ')).join('')}`;
  });
  return name === undefined ? `Change properties with: veld set VE NAME=VALUE ...\n\n${parts.join('\n')}` : parts.join('\n');
}

/** A row's default as `veld set` would read it. */
export function defaultText(row: PropertyRow): string {
  return formatProperty(row.name, row.default) || 'empty';
}
