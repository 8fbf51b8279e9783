/**
 * The firewall of each VE, from its own properties, on the host's side where its root cannot reach it.
 *
 * A VE with rules has a chain for each direction that has some, reached through a map from its link (or, for what the host itself sends,
 * its addresses); to all others the map is one lookup that finds nothing. Each packet of the direction in which a connection was opened
 * is looked at, answers never: a connection that is no longer allowed is cut at once.
 */
import { parseRule } from '../spec/rules.ts';
import type { Rule } from '../spec/rules.ts';
import type { VeRecord } from '../store/types.ts';
import { interfacesOf, routedAddresses } from './interfaces.ts';
import type { PlanContext } from './plan.ts';

/** The maps, empty. Their elements come after the chains. */
export const RULE_MAPS = `  map rules_in { type ifname : verdict; }
  map rules_out { type ifname : verdict; }
  map rules_in4 { type ipv4_addr : verdict; }
  map rules_in6 { type ipv6_addr : verdict; }`;

/** Lines of nft that give a VE its chains, and lines that take them away again (also when they are not there). */
export interface RuleLines {
  add: string;
  remove: string;
}

/** The lines for a VE; empty when it has no rules. */
export function ruleLines(ve: VeRecord, context: PlanContext): RuleLines {
  const { names } = context;
  const rules = rulesOf(ve);
  const add: string[] = [];
  const remove: string[] = [];
  for (const direction of ['in', 'out'] as const) {
    const lines = chainOf(rules, direction, `refused_${direction}_${ve.number}`);
    if (lines.length === 0) continue;
    const chain = `${direction}_${ve.number}`;
    const elements = elementsOf(ve, context, direction).map(([map, key]) => `element inet ${names.table} ${map} { ${key} : jump ${chain} }`);
    const make = [`add counter inet ${names.table} refused_${chain}`, `add chain inet ${names.table} ${chain}`];
    add.push(...make, `flush chain inet ${names.table} ${chain}`, ...lines.map((line) => `add rule inet ${names.table} ${chain} ${line}`), ...elements.map((element) => `add ${element}`));
    remove.push(...make, ...elements.flatMap((element) => [`add ${element}`, `delete ${element}`]), `flush chain inet ${names.table} ${chain}`,
      `delete chain inet ${names.table} ${chain}`, `delete counter inet ${names.table} refused_${chain}`);
  }
  return { add: text(add), remove: text(remove) };
}

/** Rules of one chain: what is denied is refused, what is allowed goes back, and the rest too unless something was allowed by name. */
export function chainOf(rules: { allow: readonly Rule[]; deny: readonly Rule[] }, direction: 'in' | 'out', counter: string): string[] {
  const refuse = `counter name ${counter} jump refuse`;
  const deny = rules.deny.filter((rule) => rule.direction === direction);
  const allow = rules.allow.filter((rule) => rule.direction === direction);
  if (deny.length === 0 && allow.length === 0) return [];
  return [...deny.map((rule) => joined(matchOf(rule), refuse)), ...allow.map((rule) => joined(matchOf(rule), 'return')), ...(allow.length > 0 ? [refuse] : [])];
}

/** What a rule matches, in nft's words. */
export function matchOf({ direction, who, ports, protocol }: Rule): string {
  const side = who === null ? '' : `${who.includes(':') ? 'ip6' : 'ip'} ${direction === 'in' ? 'saddr' : 'daddr'} ${who}`;
  const range = ports === null ? '' : ports[0] === ports[1] ? String(ports[0]) : ports.join('-');
  if (protocol === 'icmp') return joined(side, 'meta l4proto { icmp, ipv6-icmp }');
  if (range === '') return joined(side, protocol === null ? '' : `meta l4proto ${protocol}`);
  return joined(side, protocol === null ? `meta l4proto { tcp, udp } th dport ${range}` : `${protocol} dport ${range}`);
}

function rulesOf(ve: VeRecord): { allow: Rule[]; deny: Rule[] } {
  const read = (name: string): Rule[] => {
    const list = ve.properties[name];
    return Array.isArray(list) ? list.flatMap((item) => parseRule(String(item)) ?? []) : [];
  };
  return { allow: read('network.allow'), deny: read('network.deny') };
}

function elementsOf(ve: VeRecord, context: PlanContext, direction: 'in' | 'out'): [map: string, key: string][] {
  const routed = interfacesOf(ve, context).filter(({ bridge }) => bridge === undefined);
  const links = routed.map(({ link }): [string, string] => [`rules_${direction}`, `"${link}"`]);
  if (direction === 'out') return links;
  return [...links, ...routedAddresses(ve, context).map(({ text: address, family }): [string, string] => [`rules_in${family}`, address])];
}


function joined(...parts: string[]): string {
  return parts.filter((part) => part !== '').join(' ');
}

function text(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}
