/** Language and time zone of a new VE, in the files that its template reads. */
import { lstatSync, readFileSync, realpathSync } from 'node:fs';
import { VeldError } from '../../lib/errors.ts';
import type { Rows } from './rows.ts';
import type { Tree } from './tree.ts';

/** Zones are compiled files; a VE that lacks them gets the host's. */
const ZONES = '/usr/share/zoneinfo';
/** Bytes; the largest has some 4000. */
const ZONE_MAX = 65_536;
/** How a compiled zone begins: tzfile(5). */
const MAGIC = 'TZif';

/** Locales that glibc and musl have built in. (C.UTF-8 since glibc 2.35; Debian has had it before in each system.) */
const BUILT_IN = /^(C|POSIX|C\.(UTF-8|utf8))$/;

/** Debian's place, by which its templates are known. */
const DEBIAN = '/etc/default/locale';

/** @throws VeldError `personal.invalid` when the template has no such locale */
export async function addLocale(tree: Tree, rows: Rows, locale: string): Promise<void> {
  await checkLocale(tree, locale);
  const places = await tree.find(DEBIAN) || await tree.find('/etc/debian_version') ? [DEBIAN, ...await tree.find('/etc/locale.conf') ? ['/etc/locale.conf'] : []] : ['/etc/locale.conf'];
  for (const place of places) {
    // What goes before LANG, or beside it for messages, would be in its way (locale(7)).
    const kept = (await tree.text(place) ?? '').split('\n').filter((line) => line.trim() !== '' && !/^\s*(LANG|LANGUAGE|LC_ALL)=/.test(line));
    await rows.file(place, [...kept, `LANG=${locale}`, ''].join('\n'));
  }
}

async function checkLocale(tree: Tree, locale: string): Promise<void> {
  if (BUILT_IN.test(locale)) return;
  // musl takes any name. glibc writes what is behind the dot without signs and in small letters (locale -a does).
  if ((await tree.names('/lib')).some((name) => name.startsWith('ld-musl-'))) return;
  const own = locale.replace(/\.([A-Za-z0-9-]+)/, (_, codeset: string) => `.${codeset.toLowerCase().replaceAll('-', '')}`);
  // All in one file, which is large, and tells no more than that somebody has made locales.
  for (const name of [locale, own, 'locale-archive']) if (await tree.find(`/usr/lib/locale/${name}`)) return;
  throw new VeldError('personal.invalid', `The template has no locale ${locale}: only C.UTF-8 is in it.`, { hint: 'Build a template with `--include locales-all`, or take C.UTF-8.' });
}

/** @throws VeldError `personal.invalid` when neither the template nor this host knows the zone */
export async function addTimezone(tree: Tree, rows: Rows, zone: string): Promise<void> {
  const path = `${ZONES}/${zone}`;
  if ((await tree.find(path))?.kind === 'file' && (await tree.text(path, ZONE_MAX))?.startsWith(MAGIC)) await rows.link('/etc/localtime', path);
  else {
    const own = hostZone(zone);
    if (own === undefined) throw new VeldError('personal.invalid', `There is no time zone ${zone}, neither in the template nor on this host.`, { hint: '`ls /usr/share/zoneinfo` shows the names, such as Europe/Berlin.' });
    await rows.content('/etc/localtime', own);
  }
  if (await tree.find('/etc/timezone') || await tree.find('/etc/debian_version')) await rows.file('/etc/timezone', `${zone}\n`);
}

/** The host's compiled zone. @param zone checked: no dots, no slash at its ends */
function hostZone(zone: string): Uint8Array | undefined {
  try {
    const path = realpathSync(`${ZONES}/${zone}`);
    if (!path.startsWith(`${ZONES}/`) || !lstatSync(path).isFile() || lstatSync(path).size > ZONE_MAX) return undefined;
    const content = readFileSync(path);
    return content.toString('latin1').startsWith(MAGIC) ? content : undefined;
  } catch {
    return undefined; // none, or no tzdata
  }
}
