/** What quickstart puts beside the links: completion for the shells, where those of Debian and Ubuntu look, and the manual pages. */
import { chmodSync, lstatSync, mkdirSync, readFileSync, rmSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readIfExists, writeFileAtomic } from '../../src/lib/files.ts';
import { generateMan } from '../generate-man.ts';
import { MARK } from '../roff.ts';
import type { MadeByQuickstart } from './record.ts';

/** Where a machine's administrator installs things, as the File Hierarchy Standard has it. */
const SHARE = '/usr/local/share';

/** bash-completion and fish look below XDG_DATA_DIRS, by default /usr/local/share and /usr/share; zsh's fpath has the folder as Debian builds it. */
const COMPLETIONS: Record<string, string> = { bash: 'bash-completion/completions/veld', zsh: 'zsh/site-functions/_veld', fish: 'fish/vendor_completions.d/veld.fish' };

/** The first words of each file of ours: whoever holds such a file may replace it, although another installation made it. */
const OURS = [MARK, '# Completion of veld', '#compdef veld\n# Completion of veld'];

/**
 * Put the files where they belong, and note them. Those that are the same already are not touched.
 * @param share replaced in tests @returns those that are somebody else's, and stay
 */
export async function installFiles(root: string, made: MadeByQuickstart, share = SHARE): Promise<string[]> {
  const wanted: [path: string, content: string][] = [
    ...Object.entries(COMPLETIONS).map(([shell, path]): [string, string] => [path, readFileSync(join(root, `share/completion/veld.${shell}`), 'utf8')]),
    ...Object.entries(await generateMan()).map(([path, content]): [string, string] => [join('man', path), content]),
  ];
  const refused: string[] = [];
  for (const [path, content] of wanted) {
    const file = join(share, path);
    const there = lstatSync(file, { throwIfNoEntry: false });
    const text = there?.isFile() ? readIfExists(file) : undefined;
    if (there && !(text !== undefined && isOurs(text))) {
      refused.push(file);
      continue;
    }
    if (text !== content) {
      makeFolder(dirname(file), made);
      writeFileAtomic(file, content, 0o644);
      chmodSync(file, 0o644); // whatever the umask
    }
    if (!made.files.includes(file)) made.files.push(file);
  }
  // Pages of commands that this version has no more.
  const names = new Set(wanted.map(([path]) => join(share, path)));
  removeFiles({ files: made.files.filter((file) => !names.has(file)), folders: [] });
  made.files = made.files.filter((file) => names.has(file));
  return refused;
}

/** Make a folder and those above it, and note which were not there. */
function makeFolder(folder: string, made: MadeByQuickstart): void {
  if (lstatSync(folder, { throwIfNoEntry: false })) return;
  makeFolder(dirname(folder), made);
  mkdirSync(folder);
  chmodSync(folder, 0o755);
  made.folders.push(folder);
}

/** Take away what was noted and is still ours, then the folders that were made for it, where they are empty. */
export function removeFiles({ files, folders }: Pick<MadeByQuickstart, 'files' | 'folders'>): void {
  for (const file of files) if (isOurs(readIfExists(file) ?? '')) rmSync(file);
  for (const folder of folders.toReversed()) {
    try {
      rmdirSync(folder);
    } catch { /* not empty, or gone */ }
  }
}

function isOurs(text: string): boolean {
  return OURS.some((mark) => text.startsWith(mark));
}
