import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { Compile } from 'typebox/schema';
import { VeldError } from '../lib/errors.ts';
import { canonicalAddress, canonicalCidr, canonicalDomain, canonicalGateway, canonicalNetwork, canonicalPrefix, canonicalResolver } from './addresses.ts';
import { canonicalInterface } from './interfaces.ts';
import { canonicalMount } from './disk-mounts.ts';
import { canonicalPublish, parsePublish, publishOverlaps } from './ports.ts';
import { canonicalRule, parseRule } from './rules.ts';
import { findProperty, formatProperty, parseProperties, parseProperty, PROPERTIES, resolveProperties } from './properties.ts';
import { changesSchema, resolvedSchema, valueSchema } from './schema.ts';
import type { ListItem, Properties, PropertyRow } from './types.ts';

const refused = (name: string, input: unknown): VeldError => {
  let value: unknown;
  try {
    value = parseProperty(name, input);
  } catch (error) {
    assert.ok(error instanceof VeldError, String(error));
    return error;
  }
  return assert.fail(`${name} took ${JSON.stringify(input)} as ${JSON.stringify(value)}`);
};

const ipv6 = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 7, maxLength: 7 }).map((parts) => `fd00:${parts.map((p) => p.toString(16)).join(':')}`);
const ipv4 = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 3, maxLength: 3 }).map((parts) => `10.${parts.join('.')}`);
const domain = fc.domain().filter((name) => name.length < 200);

const port = fc.integer({ min: 1, max: 60_000 });
const range = fc.tuple(port, fc.integer({ min: 0, max: 1023 }));
const mountPath = fc.array(fc.stringMatching(/^[a-z0-9._-]{1,8}$/).filter((name) => !/^\.{1,2}$/.test(name)), { minLength: 1, maxLength: 4 }).map((names) => `/${names.join('/')}`);
const mount = fc.tuple(mountPath, mountPath, fc.constantFrom('', ':ro', ':plain', ':plain:ro')).map(([host, inside, options]) => `${host}:/srv${inside}${options}`);
const publish = fc.tuple(fc.option(fc.oneof(ipv4, ipv6.map((a) => `[${a}]`), fc.constantFrom('0.0.0.0', '[::]'))), range, port, fc.constantFrom('', '/tcp', '/udp'))
  .map(([host, [first, more], inside, protocol]) => `${host === null ? '' : `${host}:`}${first}-${first + more}:${inside}-${inside + more}${protocol}`);
const rule = fc.tuple(fc.constantFrom('', 'in:', 'out:'), fc.oneof(fc.constant('any'), ipv4, ipv4.map((a) => `${a}/13`), ipv6.map((a) => `[${a}]`), ipv6.map((a) => `[${a}/35]`)),
  fc.option(range), fc.constantFrom('', '/tcp', '/udp'))
  .map(([direction, who, ports, protocol]) => `${direction}${who}${ports === null ? '' : `:${ports[0]}-${ports[0] + ports[1]}`}${protocol}`);

const items: Record<ListItem, { values: fc.Arbitrary<string>; canonical: (text: string) => string | undefined }> = {
  address: { values: fc.oneof(ipv4, ipv6, ipv4.map((ip) => `${ip}/24`)), canonical: (text) => canonicalAddress(text) ?? canonicalCidr(text) },
  resolver: { values: fc.oneof(ipv4, ipv6), canonical: canonicalResolver },
  domain: { values: domain, canonical: canonicalDomain },
  gateway: { values: fc.oneof(ipv4, ipv6, fc.constant('FE80:0::1')), canonical: canonicalGateway },
  prefix: { values: fc.oneof(ipv4.map((ip) => `${ip}/28`), ipv6.map((ip) => `${ip}/64`)), canonical: canonicalPrefix },
  mount: { values: mount, canonical: canonicalMount },
  publish: { values: publish, canonical: canonicalPublish },
  rule: { values: rule, canonical: canonicalRule },
  interface: {
    values: fc.tuple(fc.integer({ min: 1, max: 15 }), fc.constantFrom('', ',mtu=9000', ',guard=router,mac=02:AB:00:00:00:01'), fc.constantFrom(',bridge=br0,address=dhcp', ',address=10.0.0.9,prefix=FD00:1::/64', ',gateway=fe80::1,bridge=br-lan.7'))
      .map(([n, ...fields]) => `eth${n}${fields.join('')}`),
    canonical: canonicalInterface,
  },
};
const mac = fc.integer({ min: 1, max: 0xffff }).map((n) => `02:00:00:00:${(n >> 8).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`);

/** Values that a person could give for a row, in any of its spellings. */
function inputs({ name, type, default: standard }: PropertyRow): fc.Arbitrary<unknown> {
  const open = standard === null || ('unlimited' in type && type.unlimited === true) ? [fc.constant(null)] : [];
  switch (type.kind) {
    case 'boolean': return fc.boolean();
    case 'integer': return fc.oneof(...open, fc.integer({ min: type.min, max: type.max }));
    case 'percent': return fc.oneof(...open, fc.integer({ min: type.min, max: type.max }));
    case 'pair': {
      const amount = fc.integer({ min: type.min, max: type.max });
      return fc.oneof(...open, amount, amount.map((n) => `${n}:${n}`), amount.map((n) => ({ barrier: n, limit: n })), fc.constant('unlimited:unlimited'));
    }
    case 'quota': {
      const pairs = fc.tuple(fc.integer({ min: type.min, max: 2 ** 40 }), fc.nat(2 ** 40)).map(([soft, more]) => ({ soft, hard: soft + more }));
      return fc.oneof(...open, fc.integer({ min: type.min, max: 2 ** 40 }), pairs, pairs.map(({ soft, hard }) => `${soft}:${hard}`), pairs.map(({ soft }) => `${soft}:unlimited`), fc.constant('unlimited:unlimited'));
    }
    case 'seconds': return fc.integer({ min: type.min, max: type.max });
    case 'bytes': return fc.oneof(...open, fc.maxSafeNat().filter((n) => n >= type.min), fc.integer({ min: 16, max: 4096 }).map((n) => `${n}G`));
    case 'rate': return fc.oneof(...open, fc.maxSafeNat().filter((n) => n >= type.min), fc.integer({ min: 8, max: 4096 }).chain((n) => fc.constantFrom('kbit', 'Mbit', 'gbit/s', '.5gbps').map((unit) => `${n}${unit === '.5gbps' ? '.5gbitps' : unit}`)));
    case 'choice': return fc.constantFrom(...type.choices);
    case 'ranges': return fc.oneof(...open, fc.array(fc.tuple(fc.nat(type.max - 9), fc.nat(9)).map(([first, more]) => (more === 0 ? `${first}` : `${first}-${first + more}`)), { minLength: 1, maxLength: 4 }).map((parts) => parts.join(',')));
    case 'text': return name === 'network.mac' ? fc.oneof(...open, mac) : name === 'disk.pool' || name === 'backup.repository' ? fc.constantFrom('default', 'fast', 'a-1') : name === 'backup.schedule' ? fc.constantFrom('hourly', 'daily@23:59', 'weekly@sun-04:00') : name === 'backup.keep' ? fc.constantFrom('7d', '10l 24h 2y') : type.pattern ? fc.oneof(...open, domain.map((name) => (type.pattern!.test('/') ? `/${name}` : name)).filter((name) => name.length <= type.maxLength)) : fc.string({ maxLength: 200 }).filter((text) => !/[\p{Cc}\p{Cs}]/u.test(text));
    case 'words': {
      const word = fc.string({ unit: fc.constantFrom('a', 'Z', '0', ' ', "'", '"', '\\', '$', '\n', '\t', '=', '/', 'ü', 'auto', 'none', '-'), maxLength: 12 });
      return fc.oneof(...open, fc.array(type.form ? word.map((text) => `A=${text}`) : word, { minLength: standard === null ? 1 : 0, maxLength: 5 }).filter((words) => words[0] !== ''));
    }
    default: return fc.oneof(...open, fc.uniqueArray(items[type.item].values, { maxLength: Math.min(3, type.maxItems), selector: items[type.item].canonical }));
  }
}

describe('property table', () => {
  it('gives back what it has shown, for every property', () => {
    for (const row of PROPERTIES) {
      fc.assert(fc.property(inputs(row), (input) => {
        const value = parseProperty(row.name, input);
        assert.deepEqual(parseProperty(row.name, formatProperty(row.name, value)), value);
        assert.deepEqual(parseProperty(row.name, value), value, 'canonical values are read as they are');
      }), { numRuns: 200 });
    }
  });

  it('answers any input with a canonical value or property.invalid', () => {
    const validators = new Map(PROPERTIES.map((row) => [row.name, Compile(valueSchema(row))]));
    fc.assert(fc.property(fc.constantFrom(...PROPERTIES), fc.oneof(fc.anything(), fc.string({ unit: 'binary' })), (row, input) => {
      try {
        const value = parseProperty(row.name, input);
        assert.ok(validators.get(row.name)?.Check(value), `${row.name}: ${JSON.stringify(value)}`);
      } catch (error) {
        assert.ok(error instanceof VeldError && error.code === 'property.invalid', String(error));
        assert.doesNotMatch(error.message, /[\p{Cc}\u202E]/u);
        assert.ok(error.message.length < 600);
      }
    }), { numRuns: 2000 });
  });

  it('has defaults that it accepts itself, one row per name, and a word of help each', () => {
    assert.equal(new Set(PROPERTIES.map((row) => row.name)).size, PROPERTIES.length);
    for (const row of PROPERTIES) {
      assert.deepEqual(parseProperty(row.name, row.default), row.default, row.name);
      assert.match(row.help, /^[A-Z].*\.$/);
    }
  });

  const good: [string, unknown, unknown][] = [
    ['memory.limit', '512M', 512 << 20], ['memory.limit', '1GiB', 2 ** 30], ['memory.limit', '1g', 2 ** 30], ['memory.limit', '1.5G', 1.5 * 2 ** 30],
    ['memory.limit', 'unlimited', null], ['memory.limit', ' 16M ', 16 << 20], ['memory.swap', '0', 0], ['memory.swap', '4096b', 4096],
    ['cpu.limit', '150%', 150], ['cpu.limit', 150, 150], ['cpu.limit', 'unlimited', null], ['pids.limit', 'unlimited', null],
    ['ubc.numtcpsock', '80:80', { barrier: 80, limit: 80 }], ['ubc.numtcpsock', 80, { barrier: 80, limit: 80 }], ['ubc.numpty', '16', { barrier: 16, limit: 16 }],
    ['ubc.numothersock', 'unlimited:9223372036854775807', null], ['ubc.numothersock', { barrier: 5, limit: 5 }, { barrier: 5, limit: 5 }],
    ['stop.timeout', '30s', 30], ['stop.timeout', '5m', 300], ['stop.timeout', '90', 90], ['stop.timeout', '1h', 3600],
    ['boot.start', 'YES', true], ['boot.start', 'off', false], ['boot.start', false, false], ['hostname', 'auto', null], ['hostname', 'www.example.org', 'www.example.org'],
    ['network.addresses', '10.1.2.3, FD00:0:0::1', ['10.1.2.3', 'fd00::1']], ['network.addresses', 'none', []], ['network.addresses', 'auto', null],
    ['boot.command', 'python3 -m http.server 80', ['python3', '-m', 'http.server', '80']], ['boot.command', 'auto', null], ['boot.command', "'auto'", ['auto']],
    ['boot.command', `sh -c "echo \\"\\$x\\" \\y" '' it\\'s $'a\\nb'`, ['sh', '-c', 'echo "$x" \\y', '', "it's", 'a\nb']],
    ['boot.env', "A=1 B='two words'", ['A=1', 'B=two words']], ['boot.env', 'none', []], ['boot.env', ['PEM=one\ntwo'], ['PEM=one\ntwo']], ['boot.user', '33', '33'],
    ['network.dns', ['127.0.0.1', '::1'], ['127.0.0.1', '::1']], ['network.search', 'Example.ORG. lan', ['example.org', 'lan']],
    ['network.addresses', '10.1.2.3/24', ['10.1.2.3/24']], ['network.prefixes', '2001:DB8:1::/64', ['2001:db8:1::/64']], ['network.mtu', 'auto', null],
    ['network.interfaces', 'eth2,address=dhcp,bridge=br1 eth1,gateway=FE80::1,mac=02:AA:00:00:00:01,guard=strict,bridge=br0,address=10.0.0.9/24,mtu=9000',
      ['eth2,bridge=br1,address=auto', 'eth1,bridge=br0,mac=02:aa:00:00:00:01,mtu=9000,address=10.0.0.9/24,gateway=fe80::1']],
  ];
  for (const [name, input, value] of good) it(`reads ${name}=${JSON.stringify(input)}`, () => assert.deepEqual(parseProperty(name, input), value));

  const bad: [string, unknown[]][] = [
    ['memory.limit', ['1GB', '1X', '-1', '', '15M', '1.1G', '1e9', '99999999P', 16.5 * 2 ** 20 + 0.5, Infinity, NaN, true, [], {}, '0x1000000', '16M\n']],
    ['memory.swap', ['-0', -1, '1.0000001G']],
    ['cpu.limit', ['0', '1.5%', '%', '102401', '150 %']],
    ['cpu.weight', [0, 10_001, 'unlimited', null, '1.0', '٣']],
    ['ubc.numtcpsock', ['80:90', '90:80', '', ':', '1K', -1, 1.5, 2 ** 31, { barrier: 1 }, { barrier: 1, limit: 2 }, { barrier: '1', limit: '1' }, { barrier: 1, limit: 1, more: 1 }, [1, 1], true, '5:unlimited']],
    ['ubc.numpty', [0, '0:0']],
    ['stop.timeout', ['0', '2d', '1w', '-5s', '5 m', null]],
    ['boot.start', [1, 0, '', 'maybe', 'constructor', '__proto__', null]],
    ['restart.policy', ['Always', 'toString', null]],
    ['hostname', ['', '-a', 'a-', 'a..b', '123', 'a_b', 'a\nb', 'x'.repeat(64) + '.y', 'ü', 5]],
    ['description', ['a\nb', 'x\u0000', 'x'.repeat(1025), '\u202Egnirts', '\u0085', '\u2028', null]],
    ['network.addresses', ['10.0.0.1/33', '10.0.0.1/0', '10.0.0.1/', '10.0.0.1/24/24', 'fd00::1/129', '127.0.0.1/8', '10.0.0.256', '010.0.0.1', '127.0.0.1', '0.0.0.0', '255.255.255.255', '224.0.0.1', '169.254.1.1', '::', '::1', 'fe80::1',
      'fe80::1%eth0', 'ff02::1', '::ffff:10.0.0.1', '::ffff:a00:1', '10.0.0.1,10.0.0.1', 'fd00::1 fd00:0::1', ',', '10.0.0.1,', [null], [['10.0.0.1']], ['auto'], '10.1', '1',
      Array.from({ length: 65 }, (_, i) => `10.0.0.${i}`)]],
    ['network.dns', ['1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4', 'dns.example.org']],
    ['network.search', ['a b c d e f g', '-x.org', 'a..b', '.', 'x'.repeat(64), ['none'], ['auto'], '10.0.0.1']],
    ['network.mtu', [1279, 65_536]],
    ['boot.command', ['', 'none', [], [''], [5], [null], "sh -c 'open", 'sh \\', '"', "$'\\x41'", 'a\u0000b', ['a\u0000'], ['\u202Egnirts'], Array.from({ length: 257 }, () => 'a'), ['x'.repeat(4097)], {}]],
    ['boot.env', ['A', '=1', '1A=2', ['A-B=1'], [''], null]],
    ['boot.user', ['', 'a b', '-x', 'x/y', null]],
    ['boot.cwd', ['', 'srv', null]],
    ['network.prefixes', ['10.0.0.1', '10.0.0.0/32', '2001:db8::/128', '2001:db8::/7', 'fe80::/64', '10.0.0.0/24 10.0.0.0/24']],
    ['network.gateway', ['10.0.0.1/24', 'fe80::1%eth0', '10.0.0.1,10.0.0.2,10.0.0.3']],
    ['network.mac', ['01:00:5e:00:00:01', '02:00:00:00:00', '02-00-00-00-00-01']],
    ['network.bridge', ['br 0', '..', 'a'.repeat(16), 'br0;up', 'br/0', null]],
    ['network.interfaces', ['eth0,bridge=br0', 'eth16,bridge=br0', 'lan0,bridge=br0', 'eth1,bridge=', 'eth1,bridge=a/b', 'eth1,bridge=br0,bridge=br1', 'eth1,address=x', 'eth1,x=y', 'eth1,', 'eth1,mtu=100', 'eth1,mtu=1e4',
      'eth1,mac=01:00:00:00:00:00', 'eth1,guard=on', 'eth1,address=auto,address=10.0.0.1', 'eth1,address=10.0.0.1,address=10.0.0.1', 'eth1,constructor=1', 'eth1,__proto__=1', 'eth1,=', ['none']]],
  ];
  for (const [name, values] of bad) {
    it(`refuses what is no ${name}`, () => {
      for (const input of values) assert.equal(refused(name, input).code, 'property.invalid');
    });
  }

  it('says the name, what was given and what is accepted', () => {
    const { message, details } = refused('memory.limit', '12X');
    assert.match(message, /memory\.limit cannot be "12X"\. Accepted: .*512M.*at least 16M, or unlimited\./);
    assert.equal(details?.name, 'memory.limit');
  });

  it('suggests the name that was meant', () => {
    const meant = { 'memory.limt': 'memory.limit', 'mem.limit': 'memory.limit', CPUUNITS: 'cpu.weight', ram: 'memory.limit', onboot: 'boot.start', 'Boot.Start': 'boot.start', nesting: 'features.nesting',
      numproc: 'pids.limit', 'ubc.numproc': 'pids.limit', 'ubc.physpages': 'memory.limit', 'ubc.swappages': 'memory.swap', numtcpsock: 'ubc.numtcpsock', 'ubc.numtcpsok': 'ubc.numtcpsock' };
    for (const [wrong, right] of Object.entries(meant)) {
      const error = refused(wrong, '1');
      assert.deepEqual([error.code, error.details?.nearest], ['property.unknown', right], wrong);
    }
    for (const far of ['zzzzzzzzzz', '__proto__', 'constructor', '', 'x'.repeat(1000)]) {
      assert.throws(() => findProperty(far), (error: VeldError) => error.code === 'property.unknown' && error.details?.nearest === undefined);
    }
  });

  it('reads many at once, and names all that is wrong', () => {
    assert.deepEqual(parseProperties({ 'memory.limit': '1G', 'cpu.weight': '5', hostname: undefined }), { 'memory.limit': 2 ** 30, 'cpu.weight': 5 });
    assert.throws(() => parseProperties({ 'memory.limit': 'x', 'cpu.wait': 1 }), (error: VeldError) => {
      assert.match(error.message, /memory\.limit.*cpu\.wait/);
      assert.deepEqual(error.details?.problems, [refused('memory.limit', 'x').message, refused('cpu.wait', 1).message]);
      return true;
    });
  });

  it('fills in defaults without handing out its own lists', () => {
    const all = resolveProperties({ 'memory.limit': 2 ** 30, 'gone.property': 1, 'cpu.limit': null });
    assert.equal(all['memory.limit'], 2 ** 30);
    assert.equal(all['pids.limit'], 4096);
    assert.deepEqual(Object.keys(all), PROPERTIES.map((row) => row.name));
    all['network.search'].push('x');
    assert.deepEqual(resolveProperties({})['network.search'], []);
    const typed: Properties['restart.policy'] = parseProperty('restart.policy', 'always');
    assert.equal(typed, 'always');
  });

  it('makes schemas that fit its values', () => {
    const resolved = Compile(resolvedSchema());
    assert.ok(resolved.Check(resolveProperties({ hostname: 'a.b' })));
    assert.ok(!resolved.Check({ ...resolveProperties({}), 'cpu.weight': 0 }));
    const changes = Compile(changesSchema());
    assert.ok(changes.Check({ 'memory.limit': '1G', 'network.dns': ['1.1.1.1'], 'boot.start': null, 'cpu.weight': 5 }));
    assert.ok(!changes.Check({ 'memory.limit': {} }));
  });
});

describe('published ports', () => {
  it('are read in every form, and shown in one', () => {
    const forms: [string, string][] = [
      ['8080:80', '8080:80/tcp'], ['8080:80/TCP', '8080:80/tcp'], ['53:53/udp', '53:53/udp'], ['8000-8010:80-90', '8000-8010:80-90/tcp'], ['8000-8000:80', '8000:80/tcp'],
      ['192.0.2.1:8080:80', '192.0.2.1:8080:80/tcp'], ['[2001:DB8:0::1]:8080:80/udp', '[2001:db8::1]:8080:80/udp'], ['0.0.0.0:1:1', '0.0.0.0:1:1/tcp'], ['[::]:1:1', '[::]:1:1/tcp'],
    ];
    for (const [given, shown] of forms) assert.equal(canonicalPublish(given), shown);
  });
  it('refuse what means nothing', () => {
    for (const text of ['', '80', ':80', '80:', '0:80', '80:0', '65536:1', '1-65536:1', '8010-8000:80-90', '8000-8010:80', '8000-8010:80-91', '1-1025:1-1025', '8080:80/sctp', '8080:80/',
      '127.0.0.1:8080:80', '[::1]:8080:80', '2001:db8::1:8080:80', '[192.0.2.1]:80:80', '[2001:db8::1%eth0]:80:80', '192.0.2.1/24:80:80', '192.0.2.256:1:1', '-1:80', '8080:80/tcp/udp', 'a:b:c']) {
      assert.equal(canonicalPublish(text), undefined, text);
    }
  });
  it('overlap where one port of one address would lead to two places', () => {
    const overlap = (a: string, b: string): boolean => {
      const [one, other] = [parsePublish(a), parsePublish(b)];
      assert.ok(one && other);
      assert.equal(publishOverlaps(one, other), publishOverlaps(other, one));
      return publishOverlaps(one, other);
    };
    assert.ok(overlap('80:80', '80:81'));
    assert.ok(overlap('70-80:70-80', '80-90:80-90'));
    assert.ok(overlap('80:80', '192.0.2.1:80:80'));
    assert.ok(overlap('0.0.0.0:80:80', '192.0.2.1:80:80'));
    assert.ok(!overlap('80:80', '80:80/udp'));
    assert.ok(!overlap('80:80', '81:80'));
    assert.ok(!overlap('192.0.2.1:80:80', '192.0.2.2:80:80'));
    assert.ok(!overlap('0.0.0.0:80:80', '[::]:80:80'));
  });
});

describe('rules', () => {
  it('are read in every form, and shown in one', () => {
    const forms: [string, string][] = [
      ['22', 'in:any:22'], ['22/tcp', 'in:any:22/tcp'], ['in:22/tcp', 'in:any:22/tcp'], ['OUT:any', 'out:any'], ['any/icmp', 'in:any/icmp'], ['out:80-90/udp', 'out:any:80-90/udp'],
      ['192.0.2.1', 'in:192.0.2.1'], ['192.0.2.1/32', 'in:192.0.2.1'], ['192.0.2.77/24:22', 'in:192.0.2.0/24:22'], ['10.0.0.0/8/icmp', 'in:10.0.0.0/8/icmp'], ['0.0.0.0/0:22', 'in:0.0.0.0/0:22'],
      ['2001:db8::/32', 'in:2001:db8::/32'], ['2001:DB8::1', 'in:2001:db8::1'], ['2001:db8::/32/udp', 'in:2001:db8::/32/udp'], ['[2001:db8:ffff::]/33:22', 'in:[2001:db8:8000::/33]:22'],
      ['[2001:db8::/32]:22-23/tcp', 'in:[2001:db8::/32]:22-23/tcp'], ['[2001:db8::1]', 'in:2001:db8::1'], ['::/0', 'in:::/0'],
    ];
    for (const [given, shown] of forms) assert.equal(canonicalRule(given), shown, given);
    for (const [, shown] of forms) assert.equal(canonicalRule(shown), shown, shown);
    assert.deepEqual(parseRule('out:[2001:db8::/32]:25/tcp'), { direction: 'out', who: '2001:db8::/32', ports: [25, 25], protocol: 'tcp' });
  });
  it('refuse what means nothing', () => {
    for (const text of ['', 'in:', '/tcp', 'tcp', 'icmp', ':22', 'any:', 'any:22/icmp', '22/icmp', '0', '65536', '23-22', '10.0.0.0/33', '10.0.0/8', '[2001:db8::/129]', '[2001:db8::/32]/32',
      'in:out:22', 'in:in:22', 'host:22', 'any/sctp', '2001:db8::1%eth0', '22/tcp/udp', 'any 22', '"22"', '[10.0.0.1]:22']) assert.equal(canonicalRule(text), undefined, text);
  });
  it('prefixes lose what is beyond their length', () => {
    assert.equal(canonicalNetwork('255.255.255.255/9'), '255.128.0.0/9');
    assert.equal(canonicalNetwork('ffff:ffff:ffff::/31'), 'ffff:fffe::/31');
    assert.equal(canonicalNetwork('::ffff:192.0.2.1'), '::ffff:c000:201');
    assert.equal(canonicalNetwork('10.0.0.0/-1'), undefined);
  });
});
