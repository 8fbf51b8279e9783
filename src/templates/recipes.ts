/** How a template is made for each init that a suite can be built with: the packages, and the script that finishes it. */
import type { MmdebstrapOptions } from '../kernel/mmdebstrap.ts';
import { GUEST_SETUP_HOOK, guestSetupScript } from './guest-setup.ts';
import { BUSYBOX_HOOK, BUSYBOX_SETUP } from './setup-busybox.ts';
import { SYSTEMD_SETUP } from './setup-systemd.ts';
import { SYSVINIT_SETUP } from './setup-sysvinit.ts';
import type { TemplateInit } from './types.ts';

export interface Recipe {
  variant: MmdebstrapOptions['variant'];
  packages: readonly string[];
  /** Finishes the tree; an argument of mmdebstrap. */
  hook: string;
  /** What the hook runs. */
  script: string;
}

/** What every installed system has, whatever its init. */
const SERVER = ['iproute2', 'iputils-ping', 'openssh-server', 'ca-certificates', 'less', 'nano', 'procps', 'netbase', 'nftables'];

export const RECIPES: Readonly<Record<TemplateInit, Recipe>> = {
  // libpam-systemd: without it a login has no session, and `systemctl --user` fails.
  systemd: { variant: 'minbase', packages: ['systemd-sysv', 'libpam-systemd', 'dbus', ...SERVER], hook: GUEST_SETUP_HOOK, script: guestSetupScript(SYSTEMD_SETUP) },
  sysvinit: { variant: 'minbase', packages: ['sysvinit-core', 'sysv-rc', 'initscripts', ...SERVER], hook: GUEST_SETUP_HOOK, script: guestSetupScript(SYSVINIT_SETUP) },
  busybox: { variant: 'extract', packages: ['busybox-static', 'base-files', 'netbase', 'ca-certificates'], hook: BUSYBOX_HOOK, script: BUSYBOX_SETUP },
  none: { variant: 'minbase', packages: ['ca-certificates', 'netbase'], hook: GUEST_SETUP_HOOK, script: guestSetupScript('') },
};
