/**
 * Makes a template of an application image: skopeo brings it and checks its digests, each layer is held to the rules of archives, umoci unpacks them above each other. Both run in boxes;
 * only what asks a registry has a network.
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { startBox, type BoxOptions } from '../../kernel/box.ts';
import { VeldError } from '../../lib/errors.ts';
import { faultPoint } from '../../lib/faults.ts';
import type { Task } from '../../ops/types.ts';
import type { TemplateRecord } from '../../store/types.ts';
import { fingerprintOf, inspectTree } from '../tree.ts';
import type { Staging } from '../types.ts';
import { checkArchive, UNPACK_LIMITS } from '../unpack.ts';
import { MACHINES, readImage } from './config.ts';
import type { OciReference } from './reference.ts';

const [SKOPEO, UMOCI] = ['/usr/bin/skopeo', '/usr/bin/umoci'];

export interface OciOptions {
  reference: OciReference;
  /** Of the template. */
  name: string;
  /** As Debian names it. */
  architecture: string;
  /** Folder below which it works. */
  scratch: string;
  /** File with logins of registries, containers-auth.json(5); it need not be there. */
  authFile: string;
}

/** What a box must have to write files of any owner. */
const WRITES = ['chown', 'dac_override', 'fowner', 'fsetid', 'setfcap'] as const;

/**
 * Fill `staging.path` with the tree of an image.
 * @returns the record without layers and size; its `source.command` says what runs in a VE of it
 * @throws VeldError `source.invalid` (a program is missing), `source.unreachable`, `template.invalid`, `disk.full`, `operation.cancelled`
 */
export async function fillFromOci({ reference, name, architecture, scratch, authFile }: OciOptions, staging: Staging, task: Task): Promise<Omit<TemplateRecord, 'layers' | 'size'>> {
  const missing = [SKOPEO, UMOCI].filter((program) => !existsSync(program));
  if (missing.length > 0) throw new VeldError('source.invalid', `There is no ${missing.join(' and no ')} on this node, which images of applications need.`, { hint: 'Install the packages skopeo and umoci.' });
  mkdirSync(scratch, { recursive: true, mode: 0o700 });
  // What a daemon has left that was killed: there is one for a state folder.
  for (const left of readdirSync(scratch)) if (/^oci-\d+-/.test(left) && !left.startsWith(`oci-${process.pid}-`)) rmSync(join(scratch, left), { recursive: true, force: true });
  const folder = mkdtempSync(join(scratch, `oci-${process.pid}-`));
  try {
    task.progress(2, 'bringing the image');
    await bring(reference, architecture, folder, authFile, task);
    faultPoint('oci.brought');
    const layout = join(folder, 'layout');
    const image = readImage(layout);
    const left = { ...UNPACK_LIMITS };
    for (const [i, layer] of image.layers.entries()) {
      task.progress(40 + 25 * i / image.layers.length, `checking layer ${i + 1} of ${image.layers.length}`);
      const seen = await checkArchive(layer, left, task.signal);
      left.entries -= seen.entries;
      left.bytes -= seen.bytes;
    }
    task.progress(65, 'unpacking');
    mkdirSync(staging.path, { recursive: true, mode: 0o755 });
    await inBox([UMOCI, 'raw', 'unpack', '--image', '/in:image', '/out'], { in: layout, out: staging.path, links: 'refused', capabilities: WRITES, signal: task.signal }, (said) => new VeldError('template.invalid', `The image cannot be unpacked: ${said}`));
    task.progress(92, 'taking the fingerprint');
    faultPoint('oci.unpacked');
    const facts = inspectTree(staging.path, { init: false });
    const fingerprint = await fingerprintOf(staging.path, task.signal);
    return {
      fingerprint, name, ...facts, ...facts.architecture === 'unknown' && { architecture: image.architecture }, createdAt: new Date().toISOString(),
      source: { kind: 'oci', reference: reference.text, digest: image.digest, command: image.command, ...image.description !== '' && { description: image.description } },
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Copy an image into a layout of its own, where it is called `image`. */
async function bring({ at, text }: OciReference, architecture: string, folder: string, authFile: string, { signal }: Task): Promise<void> {
  const choice = ['--override-os', 'linux', '--override-arch', Object.entries(MACHINES).find(([, debian]) => debian === architecture)?.[0] ?? architecture];
  const own = { out: folder, links: 'refused', capabilities: [], signal } as const;
  const failed = (said: string): VeldError => (/no space left/i.test(said) ? new VeldError('disk.full', `No space left for ${text}.`) : new VeldError('source.unreachable', `skopeo cannot bring ${text}: ${said}`));
  if ('folder' in at) {
    if (!existsSync(join(at.folder, 'index.json'))) throw new VeldError('template.invalid', `${at.folder} holds no layout of images: it has no index.json.`, { hint: 'The daemon reads the folder, on this node.' });
    // What a folder of this node holds its administrator trusts, or does not name; digests are checked all the same.
    await inBox([SKOPEO, '--insecure-policy', ...choice, 'copy', '--quiet', `oci:/in${at.tag === null ? '' : `:${at.tag}`}`, 'oci:/out/layout:image'], { ...own, in: at.folder }, failed);
    return;
  }
  const logins = join(folder, 'logins');
  mkdirSync(logins, { mode: 0o700 });
  if (existsSync(authFile)) copyFileSync(authFile, join(logins, 'auth.json'));
  // Whose images are believed says /etc/containers/policy.json, containers-policy.json(5).
  await inBox([SKOPEO, ...choice, 'copy', '--quiet', '--retry-times', '3', ...existsSync(authFile) ? ['--authfile', '/in/auth.json'] : [], `docker://${at.registry}`, 'oci:/out/layout:image'], { ...own, in: logins, network: true }, failed);
}

async function inBox(program: readonly string[], options: BoxOptions, failed: (said: string) => VeldError): Promise<void> {
  const { code, said } = await startBox(program, options).ended;
  // eslint-disable-next-line no-control-regex
  if (code !== 0) throw failed(`${Buffer.from(said, 'latin1').toString('utf8').replaceAll(/[\x00-\x1f]/g, ' ').slice(-600) || `status ${code}`}${/[.!]$/.test(said) ? '' : '.'}`);
}

/** Where logins of registries are, beside the files of sources. @param sourcesDir of the settings */
export function authFileOf(sourcesDir: string): string {
  return join(dirname(sourcesDir), 'registry-auth.json');
}
