/** `veld create` */
import type { VeDetail } from '../../ve/types.ts';
import type { Personal } from '../../spec/personal.ts';
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import type { PersonalOptions } from '../personal.ts';
import { NO_WAIT, runJob } from '../operations.ts';
import { parseDuration, parsePair, parseVariable, propertiesOf, segment } from '../values.ts';
import { templateOf } from '../template-of-image.ts';
import { waitUntilUp } from '../wait-until-up.ts';

interface Options extends PersonalOptions {
  template: string;
  preset?: string;
  start?: boolean;
  set?: [string, string][];
  address?: string[];
  publish?: string[];
  hostname?: string;
  env?: [string, string][];
  cwd?: string;
  /** `--wait` true, `--no-wait` false, neither: until the operation has ended. */
  wait?: boolean;
  timeout?: number;
}

export const command = defineCommand<{ name: string; command: string[] }, Options>({
  name: 'create',
  group: 'Life of a VE',
  summary: 'Make a VE from a template',
  description: ['The template is shared, not copied: a VE takes no space before it writes. Without --address it gets the next free address of each pool.',
    'With a command behind -- it is an application VE: it runs that command under a small init instead of a system of its own (properties boot.command, boot.user, boot.env, boot.cwd).',
    'Without one, --user makes an account in it, and --ssh-key and --password-file are of that account, or else root\'s. They are written into the VE before it first runs, whatever system it has; nothing of it is kept elsewhere, and a password goes to the daemon as a hash. Data for cloud-init needs a template with cloud-init.'],
  args: [
    { name: 'name', help: 'Name of the new VE: 1 to 63 of a-z, 0-9 and -, a letter first' },
    { name: 'command', help: 'The one command that it runs; no shell is involved', commandLine: true, required: false, afterDashes: true },
  ],
  options: [
    { flags: '-t, --template <template>', completes: 'template', help: 'Name or fingerprint of the template (`veld template list`), or an image to make one of (`veld template search`)', mandatory: true },
    { flags: '-s, --start', help: 'Start it, too' },
    { flags: '-w, --wait', help: 'With --start: wait until the system inside is up' },
    { flags: '--preset <preset>', completes: 'preset', help: 'Properties of a preset (`veld preset list`); --set goes before them' },
    { flags: '--set <name=value>', completes: 'assignment', help: 'Set a property (`veld help properties`)', parse: parsePair, repeat: true },
    { flags: '-a, --address <address>', help: 'Give it this IPv4 or IPv6 address instead of a free one', repeat: true },
    { flags: '-p, --publish <ports>', help: 'Let a port of the host lead to one of the VE: 8080:80, 192.0.2.1:53:53/udp (`veld help publish`)', repeat: true },
    { flags: '--hostname <name>', help: 'Host name inside; default: the name of the VE' },
    { flags: '-u, --user <user>', help: 'Account to make in it. With a command: the user, by name or uid, who runs it; default root' },
    { flags: '--ssh-key <key>', completes: 'file', help: 'Public key, or a file with some, that may log in as --user, or else as root', repeat: true },
    { flags: '--password-file <file>', completes: 'file', help: 'Its first line is the password of --user, or else of root; - is standard input' },
    { flags: '--sudo', help: 'Let --user do everything by sudo; with a key only, without a password' },
    { flags: '--locale <locale>', help: 'Language of its programs, such as C.UTF-8' },
    { flags: '--timezone <zone>', help: 'Its time zone, such as Europe/Berlin' },
    { flags: '--user-data <file>', completes: 'file', help: 'For cloud-init: what to do at its first boot' },
    { flags: '--vendor-data <file>', completes: 'file', help: 'For cloud-init: the same, below --user-data' },
    { flags: '--network-config <file>', completes: 'file', help: 'For cloud-init: network, instead of what Veld has set up' },
    { flags: '-e, --env <name=value>', help: 'Of the command: a variable of its environment', parse: parseVariable, repeat: true },
    { flags: '-C, --cwd <path>', help: 'Of the command: folder in the VE to start in, made when it is not there; default /' },
    { flags: '--timeout <duration>', help: 'Longest wait of --wait; default 90s', parse: parseDuration },
    NO_WAIT,
  ],
  examples: [
    ['create web --template debian-12 --start', 'Make and start a VE'],
    ['create web -t debian-12 --start --user alice --ssh-key ~/.ssh/id_ed25519.pub --sudo', 'Somebody may log in, and become root'],
    ['create web -t ubuntu:24.04 --start', 'Of an image, which is brought first where it is not here (`veld template search`)'],
    ['create web -t ubuntu-24.04 --start --user-data first-boot.yaml', 'A cloud image does at its first boot what a file says'],
    ['create files -t debian-13-app --start -u www-data -- python3 -m http.server 8080', 'An application VE'],
    ['create db -t debian-12 --set memory.limit=2G --set cpu.limit=150% -a 10.187.0.20', 'With limits and an address of your choice'],
    ['create small-one -t debian-12 --preset small --set memory.limit=1G', 'A preset, and one limit of your choice'],
    ['create shop -t debian-12 --start -p 8080:80 -p 8443:443', 'Reached by ports of the host'],
  ],
  errors: ['ve.name_taken', 'name.invalid', 'property.unknown', 'property.invalid', 'property.unsupported', 'mount.refused', 'repository.not_found', 'template.not_found', 'image.not_found', 'image.ambiguous', 'image.busy', 'source.not_found', 'source.unreachable', 'source.untrusted', 'source.corrupt', 'template.invalid', 'address.none_free', 'address.taken', 'port.taken', 'preset.not_found', 'preset.invalid', 'capacity.exceeded',
    'uid.none_free', 'disk.full', 've.start_failed', 've.init_died', 'exec.not_found', 'exec.not_executable', 'request.invalid', 'engine.missing', 'network.no_bridge', 'network.failed', 'storage.failed', 'operation.cancelled', 'operation.interrupted', 'timeout', 'personal.invalid', 'template.no_cloud_init', 'path.refused', 'command.failed'],
  json: 'the new VE as `veld show` prints it; with --no-wait the operation',
  async run(context, { name, command }, options) {
    const hint = 'See `veld help create`.';
    if (options.wait && !options.start) throw new VeldError('usage', 'create: --wait goes with --start.', { hint });
    if (options.timeout !== undefined && !options.wait) throw new VeldError('usage', 'create: --timeout goes with --wait.', { hint });
    const pairs: [string, unknown][] = [...options.set ?? [], ...commandProperties(command, options)];
    if (options.address) pairs.push(['network.addresses', options.address]);
    if (options.publish) pairs.push(['network.publish', options.publish]);
    if (options.hostname !== undefined) pairs.push(['hostname', options.hostname]);
    const properties = propertiesOf(pairs, 'create');
    const personal = await personalOf(command, options);
    if (options.wait === false && options.template.includes(':')) throw new VeldError('usage', 'create: --no-wait goes with a template that is here.', { hint: `First: \`veld template pull ${options.template}\`.` });
    const body = { name, template: await templateOf(context, options.template), ...options.preset !== undefined && { preset: options.preset }, properties, start: Boolean(options.start), ...personal && { personal } };
    const record = await runJob(context, { label: name, method: 'POST', path: '/v1/ves', body }, options);
    if (options.wait === false) {
      if (context.json) context.printJson(record);
      else context.out(`${record.id}\n`);
      return;
    }
    if (options.start && options.wait) await waitUntilUp(context, name, options.timeout);
    const ve = await (await context.client()).request<VeDetail>('GET', `/v1/ves/${segment(name)}`);
    if (context.json) context.printJson(ve);
    else context.out(`${ve.name} created${options.start ? ' and started' : ''}: number ${ve.number}, ${ve.addresses.join(', ') || 'no address'}\n`);
  },
});

/** What makes an application VE, as properties. */
function commandProperties(command: string[], { user, env, cwd }: Options): [string, unknown][] {
  const properties: [string, unknown][] = [['boot.env', env?.map(([name, value]) => `${name}=${value}`)], ['boot.cwd', cwd]];
  const given = properties.filter(([, value]) => value !== undefined);
  if (command.length > 0) return [['boot.command', command], ...user === undefined ? [] : [['boot.user', user] as [string, unknown]], ...given];
  if (given.length > 0) throw new VeldError('usage', 'create: --env and --cwd go with a command behind --.', { hint: 'See `veld help create`.' });
  return [];
}

/** Options that are of no use to a VE with one command. */
const OF_SYSTEMS = ['sshKey', 'passwordFile', 'sudo', 'locale', 'timezone', 'userData', 'vendorData', 'networkConfig'] as const;

/** What is laid into a VE with a system of its own. */
async function personalOf(command: string[], options: Options): Promise<Personal | undefined> {
  const given = OF_SYSTEMS.filter((name) => options[name] !== undefined);
  if (command.length > 0 && given.length > 0) {
    const flags = given.map((name) => `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`).join(', ');
    throw new VeldError('usage', `create: with a command behind --, nobody logs in: ${flags} is for VEs with a system of their own.`, { hint: 'See `veld help create`.' });
  }
  if (command.length > 0 || (given.length === 0 && options.user === undefined)) return undefined;
  const { readPersonal } = await import('../personal.ts');
  return readPersonal(options);
}
