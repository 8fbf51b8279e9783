/** What an image says of its command. Source: OCI image specification, "Image configuration", and "Image layout". Somebody else wrote all of it. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError } from '../../lib/errors.ts';

/** What runs in a VE of the image when nobody says anything else. */
export interface OciCommand {
  /** Program and arguments; empty: the image names none. */
  args: string[];
  /** `NAME=value` */
  env: string[];
  /** Absolute folder. */
  cwd: string;
  /** Name or number. */
  user: string;
}

/** An image in a layout. */
export interface OciImage {
  /** Of its manifest: 64 hex digits. */
  digest: string;
  /** Files of its layers, lowest first. */
  layers: string[];
  /** As Debian names it; `unknown` where the image does not say. */
  architecture: string;
  command: OciCommand;
  /** Its title or description; empty: none. */
  description: string;
}

/** Most bytes of an index, a manifest, a configuration. */
const DOCUMENT = 4 << 20;
/** Most layers. Registries' own limit is 127. */
const LAYERS = 200;
/** Most strings of a command, and characters of one: boot.command and boot.env take no more. */
const [STRINGS, CHARACTERS] = [256, 4096];

/** Go's names of machines, where Debian has others. */
export const MACHINES: Readonly<Record<string, string>> = { '386': 'i386', arm: 'armhf', ppc64le: 'ppc64el' };

type Json = Record<string, unknown>;

/**
 * Read the only image of a layout.
 * @param layout a folder into which skopeo has copied it, whose digests it has checked
 * @throws VeldError `template.invalid`
 */
export function readImage(layout: string): OciImage {
  const [entry] = list(document(join(layout, 'index.json')).manifests);
  const digest = digestOf(entry);
  const manifest = document(blob(layout, digest));
  const layers = list(manifest.layers);
  if (layers.length === 0 || layers.length > LAYERS) throw invalid(`it has ${layers.length} layers`);
  const whole = document(blob(layout, digestOf(manifest.config)));
  const config = object(whole.config ?? {});
  const labels = object(config.Labels ?? {});
  const description = ['org.opencontainers.image.title', 'org.opencontainers.image.description'].map((key) => labels[key]).find((label) => typeof label === 'string' && label !== '') as string | undefined;
  const machine = typeof whole.architecture === 'string' && /^[a-z0-9]{1,16}$/.test(whole.architecture) ? whole.architecture : 'unknown';
  return {
    digest, layers: layers.map((layer) => blob(layout, digestOf(layer))), architecture: MACHINES[machine] ?? machine,
    // eslint-disable-next-line no-control-regex
    command: commandOf(config), description: (description ?? '').replaceAll(/[\0-\x1f\x7f-\x9f]+/g, ' ').slice(0, 200),
  };
}

function commandOf(config: Json): OciCommand {
  const args = [...strings(config.Entrypoint, 'Entrypoint'), ...strings(config.Cmd, 'Cmd')];
  if (args.length > STRINGS) throw invalid('its command has too many arguments');
  const cwd = text(config.WorkingDir, 'WorkingDir');
  if (cwd !== '' && !cwd.startsWith('/')) throw invalid('its WorkingDir is not an absolute path');
  // USER[:GROUP]: the group is that of the user here.
  const user = text(config.User, 'User').split(':')[0]!;
  if (!/^([A-Za-z0-9_][\w.-]{0,31})?$/.test(user)) throw invalid('its User is none');
  return { args, env: strings(config.Env, 'Env').filter((pair) => /^[A-Za-z_]\w*=/.test(pair)), cwd: cwd === '' ? '/' : cwd, user: user === '' ? 'root' : user };
}

function strings(value: unknown, what: string): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > STRINGS) throw invalid(`its ${what} is no list of texts`);
  return value.map((one) => text(one, what));
}

function text(value: unknown, what: string): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string' || value.length > CHARACTERS || value.includes('\0')) throw invalid(`its ${what} is no text`);
  return value;
}

function object(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('a part of its description is of another form');
  return value as Json;
}

function list(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw invalid('a part of its description is of another form');
  return value;
}

function digestOf(value: unknown): string {
  const digest = /^sha256:([0-9a-f]{64})$/.exec(String(object(value).digest))?.[1];
  if (digest === undefined) throw invalid('a part of it is named by something else than a sha256');
  return digest;
}

const blob = (layout: string, digest: string): string => join(layout, 'blobs/sha256', digest);

function document(path: string): Json {
  let fd: number | undefined;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const { size } = fstatSync(fd);
    if (size > DOCUMENT) throw invalid(`a part of its description has ${size} bytes`);
    const content = Buffer.alloc(size);
    return object(JSON.parse(content.toString('utf8', 0, readSync(fd, content, 0, size, 0))));
  } catch (error) {
    throw error instanceof VeldError ? error : invalid(`its description cannot be read (${(error as Error).message})`);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function invalid(why: string): VeldError {
  return new VeldError('template.invalid', `The image cannot be used: ${why}.`);
}
