/** Makes templates: from a suite's packages with mmdebstrap, or from an archive. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError, toVeldError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { Settings } from '../lib/settings.ts';
import { mmdebstrap } from '../kernel/mmdebstrap.ts';
import type { Source } from '../kernel/mmdebstrap.ts';
import { debianArchitecture } from '../kernel/package-sources.ts';
import { RECIPES } from './recipes.ts';
import { findSuite } from './suites.ts';
import { fingerprintOf, inspectTree } from './tree.ts';
import type { BuildRequest, TemplateBuilder, TemplateInit } from './types.ts';
import { metadataOf } from './pull.ts';
import { firstEntry, unpackArchive } from './unpack.ts';

export interface TemplateBuilderOptions {
  settings: Pick<Settings, 'stateDir' | 'engine'>;
  log?: Pick<Logger, 'info'>;
}

/** Share of a build at which each step of mmdebstrap begins, in percent. */
const STEPS: [RegExp, number, string][] = [
  [/^I: running apt-get update/, 4, 'reading package lists'],
  [/^I: downloading packages/, 10, 'downloading packages'],
  [/^I: extracting archives/, 20, 'unpacking the base'],
  [/^I: installing essential packages/, 45, 'installing the base'],
  [/^I: installing remaining packages/, 60, 'installing packages'],
  [/^I: (running --customize-hook|cleaning)/, 88, 'making it a template'],
];

/** Make the builder of an installation. */
export function createTemplateBuilder({ settings, log }: TemplateBuilderOptions): TemplateBuilder {
  return {
    async build(request, staging, task) {
      for (const name of request.include) {
        if (!/^[a-z0-9][a-z0-9.+-]{1,80}$/.test(name)) throw new VeldError('template.build_failed', `${JSON.stringify(name.slice(0, 80))} is no name of a package.`);
      }
      const suite = findSuite(request.suite, request.mirror, settings.engine.mirror);
      const init = request.init ?? 'systemd';
      const recipe = RECIPES[init];
      const include = [...new Set([...recipe.packages, ...request.include])];
      task.progress(1, `building ${suite.name}`);
      const last: string[] = [];
      let percent = 1;
      const result = await mmdebstrap({
        variant: recipe.variant, suite: suite.codename, target: staging.path, sources: suite.sources, include, architecture: debianArchitecture(),
        expiredRelease: settings.engine.expiredRelease, cache: join(settings.stateDir, 'cache', `packages-${suite.codename}${init === 'systemd' ? '' : `-${init}`}`), signal: task.signal,
        // Manual pages stay away, their folders do not: alternatives of packages (of Java, for one) make links there, and fail without.
        extra: [
          '--dpkgopt=force-unsafe-io', '--dpkgopt=path-exclude=/usr/share/man/*', '--dpkgopt=path-include=/usr/share/man/man[1-9]', '--dpkgopt=path-exclude=/usr/share/doc/*',
          '--dpkgopt=path-include=/usr/share/doc/*/copyright', '--dpkgopt=path-exclude=/usr/share/locale/*', recipe.hook,
        ],
        // The day of password changes is part of /etc/shadow; a fixed one makes two builds of the same packages the same.
        env: {
          VELD_SETUP: recipe.script, VELD_SOURCES: guestSources(suite.sources, suite.guestKeyring), DEBIAN_FRONTEND: 'noninteractive', SOURCE_DATE_EPOCH: '1704067200',
        },
        onLine: (line) => {
          last.push(line);
          if (last.length > 12) last.shift();
          const step = STEPS.find(([pattern]) => pattern.test(line));
          if (step) task.progress(percent = Math.max(percent, step[1]), step[2]);
        },
      }).catch((thrown: unknown) => {
        const error = toVeldError(thrown);
        if (error.code !== 'command.failed') throw error;
        const why = last.filter((line) => line.startsWith('E: ') && !/mmdebstrap failed|received signal/.test(line)).join(' / ');
        throw new VeldError('template.build_failed', `mmdebstrap could not build ${suite.codename}: ${why || error.message}`, { cause: error, details: { lines: last } });
      });
      task.progress(92, 'taking the fingerprint');
      log?.info({ suite: suite.codename, packages: Object.keys(result.packages).length }, 'template installed');
      const facts = inspectTree(staging.path, { init: init !== 'none' });
      const fingerprint = await fingerprintOf(staging.path, task.signal);
      return {
        fingerprint, name: templateName(request, suite.name), os: suite.os, release: suite.release, architecture: facts.architecture, createdAt: new Date().toISOString(),
        source: {
          kind: 'suite', suite: suite.codename, init, include: request.include, releases: result.releases, expired: result.releases.some((release) => release.expired),
          packages: result.packages,
        },
      };
    },

    async importArchive({ file, name, init = true }, staging, task) {
      if (!file.startsWith('/')) throw new VeldError('template.invalid', `${file} is not an absolute path.`);
      task.progress(1, 'unpacking');
      mkdirSync(staging.path, { recursive: true, mode: 0o755 });
      // Incus' and LXD's exports of an image have the tree in a folder, and what is known of it before that.
      const combined = ['metadata.yaml', 'rootfs', 'rootfs/', 'templates', 'templates/'].includes(await firstEntry(file, task.signal) ?? '');
      const metadata = combined ? await metadataOf(file, task.signal) : undefined;
      const seen = await unpackArchive(file, staging.path, { signal: task.signal, ...combined && { within: 'rootfs' }, progress: (share) => task.progress(1 + share * 88, 'unpacking') });
      task.progress(90, 'taking the fingerprint');
      const facts = inspectTree(staging.path, { init });
      const fingerprint = await fingerprintOf(staging.path, task.signal);
      return { fingerprint, name, ...facts, createdAt: new Date().toISOString(), source: { kind: 'archive', file, ...seen, ...metadata?.description && { description: metadata.description } } };
    },
  };
}

/** What a template is called whose builder gave it no name. @param suite name of the suite's template: `debian-12` */
export function templateName(request: Pick<BuildRequest, 'name' | 'init'>, suite: string): string {
  const suffixes: Record<TemplateInit, string> = { systemd: '', sysvinit: '-sysvinit', busybox: '-busybox', none: '-app' };
  return request.name ?? suite + suffixes[request.init ?? 'systemd'];
}

/** The package sources as the VE shall have them, deb822. */
function guestSources(sources: readonly Source[], keyring: string): string {
  return sources.map((source) => ['Types: deb', `URIs: ${source.mirror}`, `Suites: ${source.suite}`, `Components: ${source.components.join(' ')}`, `Signed-By: ${keyring}`, '']
    .join('\n')).join('\n');
}
