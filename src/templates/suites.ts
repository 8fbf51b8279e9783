/** Which suite is whose: family, version, package sources and keyring of a distribution's suites. */
import { existsSync } from 'node:fs';
import { VeldError } from '../lib/errors.ts';
import { debianKeyring } from '../kernel/engine-keys.ts';
import type { Source } from '../kernel/mmdebstrap.ts';
import { debianMirror, hostRelease, mirrorOf, packageSources } from '../kernel/package-sources.ts';
import type { HostRelease, PackageSource } from '../kernel/package-sources.ts';

/** A suite that a template can be built of. */
export interface Suite {
  codename: string;
  os: 'debian' | 'ubuntu';
  /** `12`, `24.04`; the codename for suites without a number. */
  release: string;
  /** Name of a template without one of its own: `debian-12`. */
  name: string;
  sources: Source[];
  /** Keyring as the template itself has it. */
  guestKeyring: string;
}

const DEBIAN: Record<string, string> = { bullseye: '11', bookworm: '12', trixie: '13', forky: '14' };
const DEBIAN_ROLLING = ['testing', 'unstable', 'sid'];
const UBUNTU: Record<string, string> = {
  focal: '20.04', jammy: '22.04', noble: '24.04', oracular: '24.10', plucky: '25.04', questing: '25.10', resolute: '26.04',
};
const UBUNTU_KEYRING = '/usr/share/keyrings/ubuntu-archive-keyring.gpg';

/** Names as people say them: `debian-12`, `ubuntu-24.04`, `debian-testing`; a template's default name is one of these. */
const ALIASES: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.entries(DEBIAN).map(([codename, version]) => [`debian-${version}`, codename])),
  ...Object.fromEntries(DEBIAN_ROLLING.map((suite) => [`debian-${suite}`, suite])),
  ...Object.fromEntries(Object.entries(UBUNTU).map(([codename, version]) => [`ubuntu-${version}`, codename])),
};

/** Names of releases besides, which are too old to be built here; for images that others have made. */
const UBUNTU_BEFORE: Record<string, string> = {
  gutsy: '7.10', hardy: '8.04', intrepid: '8.10', jaunty: '9.04', karmic: '9.10', lucid: '10.04', precise: '12.04', trusty: '14.04', xenial: '16.04', bionic: '18.04',
};
const DEBIAN_BEFORE: Record<string, string> = { etch: '4.0', lenny: '5.0', squeeze: '6.0', wheezy: '7', jessie: '8', stretch: '9', buster: '10' };
const NUMBERS: Readonly<Record<string, Readonly<Record<string, string>>>> = { ubuntu: { ...UBUNTU_BEFORE, ...UBUNTU }, debian: { ...DEBIAN_BEFORE, ...DEBIAN } };

/** Number of a release: of ubuntu's `noble` it is `24.04`. @returns undefined where there is none */
export function numberOfSuite(os: string, codename: string): string | undefined {
  return Object.hasOwn(NUMBERS, os) && Object.hasOwn(NUMBERS[os]!, codename) ? NUMBERS[os]![codename] : undefined;
}

/** The other way round. */
export function codenameOfNumber(os: string, number: string): string | undefined {
  return Object.entries((Object.hasOwn(NUMBERS, os) ? NUMBERS[os] : undefined) ?? {}).find(([, each]) => each === number)?.[0];
}

/**
 * Find a suite and where its packages come from: the host's own sources of that suite, else the same mirror under the suite's name.
 * @param name codename, distribution and version (`debian-12`), or `host`
 * @param mirror takes the place of the main mirror
 * @param configured `engine.mirror` of the settings
 * @throws VeldError `template.build_failed` for a suite that is nobody's, or has no mirror or keyring here
 */
export function findSuite(name: string, mirror: string | undefined, configured: string, release: HostRelease = hostRelease(), sources: PackageSource[] = packageSources()): Suite {
  const codename = name === 'host' ? release.codename : Object.hasOwn(ALIASES, name) ? ALIASES[name]! : name;
  if (!/^[a-z][a-z0-9-]{0,30}$/.test(codename)) throw new VeldError('template.build_failed', `${JSON.stringify(codename.slice(0, 40))} is no name of a suite.`);
  if (mirror !== undefined && !/^(https?|file):\/\/[^\s[\]]+$/.test(mirror)) throw new VeldError('template.build_failed', `The mirror ${mirror} is not an http, https or file address.`);
  const own = release.codename === codename;
  if (Object.hasOwn(DEBIAN, codename) || DEBIAN_ROLLING.includes(codename) || (own && release.id === 'debian')) {
    const main = mirror ?? mirrorOf(codename, sources) ?? debianMirror(configured, release, sources);
    const version = DEBIAN[codename] ?? (own ? release.version || codename : codename);
    const extra: [string, string | undefined][] = Object.hasOwn(DEBIAN, codename)
      ? [[`${codename}-updates`, mirrorOf(`${codename}-updates`, sources) ?? main], [`${codename}-security`, mirrorOf(`${codename}-security`, sources) ?? siblingSecurity(release, sources)]]
      : [];
    return {
      codename, os: 'debian', release: version, name: `debian-${version}`, guestKeyring: '/usr/share/keyrings/debian-archive-keyring.gpg',
      // A mirror given by hand stands alone: its user said where packages come from.
      sources: source(main, codename, ['main'], debianKeyring(), mirror === undefined ? extra : []),
    };
  }
  if (Object.hasOwn(UBUNTU, codename) || (own && release.id === 'ubuntu')) {
    const main = mirror ?? mirrorOf(codename, sources) ?? (release.id === 'ubuntu' ? mirrorOf(release.codename, sources) : undefined);
    if (main === undefined) throw new VeldError('template.build_failed', `The package sources of this machine name no mirror of Ubuntu ${codename}.`, { hint: 'Name one with --mirror.' });
    if (!existsSync(UBUNTU_KEYRING)) throw new VeldError('template.build_failed', `Ubuntu's keyring ${UBUNTU_KEYRING} is not there.`, { hint: 'Install the package ubuntu-keyring.' });
    const version = UBUNTU[codename] ?? release.version;
    const extra: [string, string | undefined][] = ['updates', 'security'].map((part) => [`${codename}-${part}`, mirrorOf(`${codename}-${part}`, sources) ?? main]);
    return {
      codename, os: 'ubuntu', release: version, name: `ubuntu-${version}`, guestKeyring: UBUNTU_KEYRING,
      sources: source(main, codename, ['main', 'universe'], UBUNTU_KEYRING, mirror === undefined ? extra : []),
    };
  }
  throw new VeldError('template.build_failed', `${codename} is no suite that Veld knows.`, { hint: `Known are ${[...Object.keys(ALIASES), ...Object.values(ALIASES)].join(', ')}.` });
}

/** The host's security mirror serves all suites of its distribution. */
function siblingSecurity(release: HostRelease, sources: PackageSource[]): string | undefined {
  return release.id === 'debian' ? mirrorOf(`${release.codename}-security`, sources) : undefined;
}

function source(main: string, codename: string, components: string[], keyring: string, extra: [string, string | undefined][]): Source[] {
  const all = [[codename, main] as const, ...extra.filter((pair): pair is [string, string] => pair[1] !== undefined)];
  return all.map(([suite, mirror]) => ({ mirror, suite, components, keyring }));
}
