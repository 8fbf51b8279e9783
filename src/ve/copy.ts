/**
 * `cp`: files out of and into a running VE.
 *
 * What reads and writes is the engine's GNU tar and busybox, run inside the VE: in its namespaces, with its capabilities and seccomp filter, under its
 * root. So no link of the VE leads anywhere but where it leads for the VE itself, and the VE needs no program of its own. The programs come in as open
 * descriptors (read-only, of files whose owner the VE does not know): `/proc/self/fd/3` is the dynamic linker, which takes the libraries by
 * `--preload`, because no path of the engine exists in there.
 *
 * A tree travels as a tar stream with one root `d` (of any kind) and, on the way in, a last entry `end`: without it the stream was cut off.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { VeldError } from '../lib/errors.ts';
import { run } from '../lib/run.ts';
import { engineParts, type Engine } from '../kernel/engine.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { execInVe } from './exec.ts';
import type { ExecSession, ReadRequest, WriteRequest } from './types.ts';

/** $tar: how to run tar; `fail` ends with a message for the user. */
const PRELUDE = `
set -u
export LC_ALL=C.UTF-8
fail() { printf '%s\\n' "$1" >&2; exit 3; }
there() { [ -e "$1" ] || [ -L "$1" ]; }
`;

/** $1: path, $2: tree or content, $3: 1 to follow a link that the path itself is. */
const READ = `${PRELUDE}
path=$1
if [ "$3" = 1 ] && [ -L "$1" ]; then path=$(readlink -f "$1") && there "$path" || fail "$1 leads nowhere"; fi
there "$path" || fail "there is no $1"
if [ "$2" = content ]; then
  [ ! -d "$path" ] || fail "$1 is a folder"
  [ -f "$path" ] || fail "$1 is not an ordinary file"
  [ -r "$path" ] || fail "$1 cannot be read"
  exec cat -- "$path"
fi
set -- $tar --create --file=- --format=posix --numeric-owner --sparse --acls --xattrs --xattrs-include='user.*' --xattrs-include=security.capability --warning=no-file-ignored
case $path in
/) exec "$@" --one-file-system --directory=/ --transform='s,^\\.,d,S' . ;;
*/) exec "$@" --directory="$path" --transform='s,^\\.,d,S' . ;;
esac
if [ -d "$path" ] && [ ! -L "$path" ]; then exec "$@" --directory="$path" --transform='s,^\\.,d,S' .; fi
case $path in */*) parent=\${path%/*}/ ;; *) parent=. ;; esac
exec "$@" --directory="$parent" --transform='s,^\\./.*,d,S' -- "./\${path##*/}"
`;

/** $1: path, $2: tree or content, $3: 1 when the tree is a folder, $4: name of the source, $5: random. */
const WRITE = `${PRELUDE}
path=$1 folder=$3 name=$4 token=$5
if [ -d "$path" ]; then
  final=\${path%/}/$name
  [ -n "$name" ] || { [ "$folder" = 1 ] || fail "$path is a folder"; final=$path; }
else
  case $path in */) fail "there is no folder $path" ;; esac
  final=$path
fi
parent=\${final%/*}/
[ -d "$parent" ] || fail "there is no folder $parent"
merge=
if [ -d "$final" ] && { [ -z "$name" ] || [ ! -L "$final" ]; }; then
  [ "$folder" = 1 ] || fail "$final is a folder"
  merge=1
elif [ "$folder" = 1 ] && there "$final"; then fail "$final is there already, and is not a folder"
fi

stage=$parent.veld-cp-$token
trap 'rm -rf "$stage"' EXIT
trap 'exit 129' HUP INT TERM
trap '' PIPE # whoever listened is gone: that must not keep us from tidying up
if [ "$2" = content ]; then
  umask 022
  : >"$stage" || fail "$parent cannot be written"
  ended=
  while IFS= read -r size; do
    [ "$size" != end ] || { ended=1; break; }
    dd bs="$size" count=1 iflag=fullblock >>"$stage" 2>/dev/null || fail "$final cannot be written"
  done
  [ -n "$ended" ] || fail "the stream was cut off"
  if [ -f "$final" ] && [ ! -L "$final" ]; then
    chown "$(stat -c %u:%g "$final")" "$stage" && chmod "$(stat -c %a "$final")" "$stage" || fail "$final cannot be replaced"
  fi
  mv -fT "$stage" "$final" || fail "$final cannot be replaced"
  exit 0
fi

set -- $tar --extract --file=- --numeric-owner --same-owner --preserve-permissions --delay-directory-restore --acls --xattrs --xattrs-include='user.*' \\
  --xattrs-include=security.capability --warning=no-timestamp
if [ -n "$merge" ]; then
  "$@" --directory="$final" --transform="s,^d,.,S;s,^end\\$,.veld-end-$token,S" || fail "not everything could be written to $final"
  [ -e "$final/.veld-end-$token" ] || fail "the stream was cut off; what had come of it is in $final"
  rm -f "$final/.veld-end-$token"
  exit 0
fi
mkdir -m 700 "$stage" || fail "$parent cannot be written"
"$@" --directory="$stage" || fail "$final could not be written"
[ -e "$stage/end" ] || fail "the stream was cut off"
mv -fT "$stage/d" "$final" || fail "$final cannot be replaced"
`;

/** Read a file or folder: a tar stream, or a file's content. @throws VeldError as {@link execInVe}, `engine.missing` */
export function readFromVe(context: VeContext, ve: VeRecord, { path, as, follow }: ReadRequest): Promise<ExecSession> {
  return runTool(context, ve, READ, [path, as, follow === true ? '1' : '']);
}

/**
 * Write what comes on standard input. A tree is the tar stream described above; content comes in frames: a line with a number of bytes (1 to 1048576),
 * that many bytes, ..., and the line `end`. Nothing is at its place before all of it has come, other than in a folder that was there before.
 */
export function writeToVe(context: VeContext, ve: VeRecord, { path, as, folder, name }: WriteRequest): Promise<ExecSession> {
  return runTool(context, ve, WRITE, [path, as, folder === true ? '1' : '', name ?? '', randomBytes(8).toString('hex')]);
}

async function runTool(context: VeContext, ve: VeRecord, script: string, parameters: string[]): Promise<ExecSession> {
  const engine = context.engine();
  const { linker, busybox } = engineParts(engine);
  const files = [linker, busybox, engine.tar, ...await librariesOf(engine)];
  const descriptors: number[] = [];
  try {
    for (const file of files) descriptors.push(openSync(file, 'r'));
    const inside = files.map((_, i) => `/proc/self/fd/${3 + i}`);
    const tar = [inside[0], '--inhibit-cache', '--argv0', 'tar', '--preload', inside.slice(3).join(':'), inside[2]].join(' ');
    return await execInVe(context, ve, {
      command: [inside[0]!, '--argv0', 'busybox', inside[1]!, 'sh', '-c', script, 'veld-cp', ...parameters], env: { tar }, cwd: '/',
    }, descriptors);
  } finally {
    for (const fd of descriptors) closeSync(fd);
  }
}

/** By engine; an engine never changes. */
const libraries = new Map<string, string[]>();

/** The libraries that tar needs, the dynamic linker excepted. */
async function librariesOf(engine: Engine): Promise<string[]> {
  let known = libraries.get(engine.dir);
  if (!known) {
    const { stdout } = await run(engineParts(engine).linker, ['--list', engine.tar]);
    known = [...stdout.matchAll(/ => (\/\S+)/g)].map((match) => match[1]!).filter((path) => !/\/ld-linux[^/]*$/.test(path));
    if (known.length === 0) throw new VeldError('engine.missing', 'The libraries of the engine\'s tar cannot be found.');
    libraries.set(engine.dir, known);
  }
  return known;
}
