/** Presets of this node: files of the administrator, and below them those that ship. Read when they are asked for: an edited file counts at once. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError, toVeldError } from '../lib/errors.ts';
import { namesIn } from '../lib/files.ts';
import type { Settings } from '../lib/settings.ts';
import { parseOpenvzSample } from '../spec/openvz-sample.ts';
import { parsePreset, PRESET_NAME } from '../spec/presets.ts';

export interface PresetView {
  name: string;
  description: string;
  /** Canonical values, by name; empty for one that cannot be read. */
  properties: Record<string, unknown>;
  /** What its file has besides, for which there is no property: of OpenVZ's samples. */
  ignored: string[];
  /** Path of its file. */
  file: string;
  /** It came with Veld; false: it is the administrator's. */
  shipped: boolean;
  /** Why it cannot be used; null: it can. */
  error: string | null;
}

/** Names of files: ours, and those of OpenVZ. */
const FILES = [/^(.*)\.conf$/, /^ve-(.*)\.conf-sample$/];

/** By name; the administrator's stands in the place of a shipped one of its name. */
export function listPresets(settings: Pick<Settings, 'presetsDir' | 'libexecDir'>): PresetView[] {
  const found = new Map<string, PresetView>();
  for (const [folder, shipped] of foldersOf(settings)) {
    for (const file of namesIn(folder)) {
      const name = FILES.map((pattern) => pattern.exec(file)?.[1]).find((part) => part !== undefined);
      if (name === undefined || !PRESET_NAME.test(name)) continue;
      found.set(name, read(name, join(folder, file), shipped));
    }
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** @throws VeldError `preset.not_found`, `preset.invalid` */
export function findPreset(settings: Pick<Settings, 'presetsDir' | 'libexecDir'>, name: string): PresetView {
  const preset = listPresets(settings).find((each) => each.name === name);
  if (!preset) throw new VeldError('preset.not_found', `There is no preset ${JSON.stringify(name.slice(0, 80))}.`);
  if (preset.error !== null) throw new VeldError('preset.invalid', preset.error);
  return preset;
}

/** Shipped first. */
function foldersOf({ presetsDir, libexecDir }: Pick<Settings, 'presetsDir' | 'libexecDir'>): [folder: string, shipped: boolean][] {
  return [[join(libexecDir, '../share/presets'), true], [presetsDir, false]];
}

function read(name: string, file: string, shipped: boolean): PresetView {
  try {
    const text = readFileSync(file, 'utf8');
    return { name, ignored: [], ...file.endsWith('-sample') ? parseOpenvzSample(text, file) : parsePreset(text, file), file, shipped, error: null };
  } catch (error) {
    return { name, description: '', properties: {}, ignored: [], file, shipped, error: toVeldError(error).message };
  }
}
