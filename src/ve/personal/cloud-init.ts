/**
 * What cloud-init finds in a new VE: a seed of its datasource NoCloud, so that it looks for no other, and the word that network, host name and host keys are Veld's.
 *
 * Files and names: documents of cloud-init, "NoCloud" (seed folder, meta-data and user-data both required), "Network configuration" (`network: {config: disabled}`),
 * modules "SSH" (`ssh_deletekeys`) and "Set Hostname" (`preserve_hostname`). It runs what belongs to an instance once for each instance-id.
 */
import { VeldError } from '../../lib/errors.ts';
import { asksCloudInit, type Personal } from '../../spec/personal.ts';
import type { Rows } from './rows.ts';
import type { Tree } from './tree.ts';

const PROGRAM = '/usr/bin/cloud-init';

/** Where this is, its generator for systemd and its scripts do nothing. */
const SWITCHED_OFF = '/etc/cloud/cloud-init.disabled';

const SEED = '/var/lib/cloud/seed/nocloud';

/** Of two names it takes the one that comes later. */
const SETTINGS = '/etc/cloud/cloud.cfg.d/99-veld.cfg';

/** Who the VE is. */
export interface Instance {
  uuid: string;
  hostname: string;
  /** Fingerprint of its template. */
  template: string;
}

/** Add the files, where the tree has cloud-init. @throws VeldError `template.no_cloud_init` when there is data for it, and it is not there */
export async function addCloudInit(tree: Tree, rows: Rows, instance: Instance, personal: Personal): Promise<void> {
  const asked = asksCloudInit(personal);
  const missing = await tree.find(PROGRAM) === undefined ? 'has no cloud-init' : await tree.find(SWITCHED_OFF) ? `has cloud-init switched off (${SWITCHED_OFF})` : undefined;
  if (missing !== undefined) {
    if (asked) throw new VeldError('template.no_cloud_init', `The template ${missing}, which would read this data.`);
    return;
  }
  // A template that brings a seed of its own has its reasons; of a warm image it is Veld's.
  if (!asked && !(await tree.find(SETTINGS)) && (await tree.find(`${SEED}/user-data`) || await tree.find(`${SEED}-net/user-data`))) return;
  const { userData = '#cloud-config\n{}\n', vendorData, networkConfig } = personal.cloudInit ?? {};
  await rows.file(SETTINGS, settings(personal), { mode: 0o644 });
  // Without data of its own a VE is the instance that booted for its template's warm image, too: else its first reboot would be a first boot.
  const id = asked ? instance.uuid : `veld-${instance.template.slice(0, 32)}`;
  await rows.file(`${SEED}/meta-data`, `instance-id: ${id}\nlocal-hostname: ${instance.hostname}\n`, SECRET);
  await rows.file(`${SEED}/user-data`, userData, SECRET);
  if (vendorData !== undefined) await rows.file(`${SEED}/vendor-data`, vendorData, SECRET);
  if (networkConfig !== undefined) await rows.file(`${SEED}/network-config`, networkConfig, SECRET);
}

/** User-data may hold passwords. */
const SECRET = { mode: 0o600, uid: 0, gid: 0 };

function settings({ locale, timezone, cloudInit }: Personal): string {
  return [
    '# Written by Veld when this VE was made.',
    'datasource_list: [NoCloud, None]',
    'datasource: {NoCloud: {fs_label: null}}', // no look into block devices
    ...(cloudInit?.networkConfig === undefined ? ['network: {config: disabled}'] : []),
    'preserve_hostname: true',
    'ssh_deletekeys: false',
    // What Veld has set already it would set anew, and to its own.
    // Without one the template's stays: cloud-init would set its own, which the template may not have (module "Locale").
    `locale: ${locale === undefined ? 'false' : JSON.stringify(locale)}`,
    ...(timezone === undefined ? [] : [`timezone: ${JSON.stringify(timezone)}`]),
    '',
  ].join('\n');
}
