/** Rules of a VE's firewall as a person writes them: `22/tcp`, `in:192.0.2.0/24:443`, `out:[2001:db8::/32]:25/tcp`, `any/icmp`. Pure. */
import { canonicalNetwork } from './addresses.ts';

export interface Rule {
  /** `in`: to the VE; `out`: from it. */
  direction: 'in' | 'out';
  /** The other side, a prefix or (of full length) an address; null: anybody. */
  who: string | null;
  /** First and last port of the destination; null: all. */
  ports: readonly [number, number] | null;
  /** Null: all (with ports: tcp and udp). */
  protocol: 'tcp' | 'udp' | 'icmp' | null;
}

/** Without the direction: who, ports, protocol. An IPv6 address with ports stands in brackets. */
const ITEM = /^(?!:)(?:(any)|\[([0-9a-f:.]+(?:\/\d{1,3})?)\](\/\d{1,3})?|((?:\d{1,3}\.){3}\d{1,3}(?:\/\d{1,2})?))?(?:(?:^|:)(\d{1,5})(?:-(\d{1,5}))?)?(?:\/(tcp|udp|icmp))?$/i;
/** IPv6 without brackets, which can have no port. */
const PLAIN6 = /^([0-9a-f]*:[0-9a-f:.]*(?:\/\d{1,3})?)(?:\/(tcp|udp|icmp))?$/i;

/** Read one item, or undefined when it is none. */
export function parseRule(text: string): Rule | undefined {
  const [, direction = 'in', rest = ''] = /^(?:(in|out):)?(.*)$/i.exec(text) ?? [];
  const base = { direction: direction.toLowerCase() as 'in' | 'out' };
  const found = rest === '' ? null : ITEM.exec(rest);
  if (!found) {
    const plain = PLAIN6.exec(rest);
    const who = plain?.[1] === undefined ? undefined : canonicalNetwork(plain[1]);
    return who === undefined ? undefined : { ...base, who, ports: null, protocol: protocolOf(plain?.[2]) };
  }
  const [, any, six, length = '', four, from, to = from, protocol] = found;
  if (six !== undefined && (!six.includes(':') || (six.includes('/') && length !== ''))) return undefined;
  const given = six === undefined ? four : six + length;
  const who = given === undefined ? null : canonicalNetwork(given);
  const ports = from === undefined ? null : [Number(from), Number(to)] as const;
  if (who === undefined || (who === null && any === undefined && ports === null)) return undefined;
  if (ports && (ports[0] < 1 || ports[1] > 65_535 || ports[1] < ports[0] || protocol?.toLowerCase() === 'icmp')) return undefined;
  return { ...base, who, ports, protocol: protocolOf(protocol) };
}

/** The one text of a rule. */
export function formatRule({ direction, who, ports, protocol }: Rule): string {
  const side = who === null ? 'any' : who.includes(':') && ports ? `[${who}]` : who;
  const range = ports === null ? '' : `:${ports[0] === ports[1] ? ports[0] : ports.join('-')}`;
  return `${direction}:${side}${range}${protocol === null ? '' : `/${protocol}`}`;
}

/** {@link parseRule} and {@link formatRule}: the canonical text. */
export function canonicalRule(text: string): string | undefined {
  const rule = parseRule(text);
  return rule && formatRule(rule);
}

function protocolOf(text: string | undefined): Rule['protocol'] {
  return (text?.toLowerCase() as Rule['protocol'] | undefined) ?? null;
}
