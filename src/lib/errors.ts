/**
 * The one table of errors that a user can meet.
 *
 * Each row gives the kind of failure, the exit status of a command line that ends with it, and what to do next.
 * The HTTP status follows from the kind. Messages (what failed, why) are written where the failure is found.
 */

/** What an error means to the caller; decides the HTTP status. */
export type ErrorKind = 'invalid' | 'not_found' | 'conflict' | 'unavailable' | 'unsupported' | 'forbidden' | 'cancelled' | 'internal';

/** HTTP status of each kind. */
export const HTTP_STATUS: Record<ErrorKind, number> = {
  invalid: 400,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  unavailable: 503,
  unsupported: 501,
  cancelled: 499,
  internal: 500,
};

interface ErrorRow {
  kind: ErrorKind;
  /** Exit status of `veld`. 1 is an internal failure, 2 wrong usage; 3 and up are listed in docs/reference/errors.md. */
  exit: number;
  /** What the user can do about it. */
  hint: string;
}

/** Code -> row. Codes are stable: programs match on them. */
export const ERRORS = {
  internal: { kind: 'internal', exit: 1, hint: 'Look at the daemon log; the request id leads to the entry.' },
  usage: { kind: 'invalid', exit: 2, hint: 'See `veld help COMMAND`.' },
  'request.invalid': { kind: 'invalid', exit: 2, hint: 'Compare the request with /v1/openapi.json.' },
  'route.not_found': { kind: 'not_found', exit: 2, hint: 'The routes are listed in /v1/openapi.json.' },
  'daemon.unreachable': { kind: 'unavailable', exit: 3, hint: 'Start it with `systemctl start veldd`, or `./quickstart` again.' },
  'daemon.running': { kind: 'conflict', exit: 3, hint: 'Stop the other daemon, or give this one an instance name of its own.' },
  'daemon.instance_overlap': { kind: 'conflict', exit: 3, hint: 'Give each instance its own folders, address pools and uid block.' },
  'settings.invalid': { kind: 'invalid', exit: 2, hint: 'Correct the settings file; docs/reference/settings.md lists the keys.' },
  'store.too_new': { kind: 'unsupported', exit: 3, hint: 'Install the newer Veld again, or restore the backup made before its first start.' },
  've.not_found': { kind: 'not_found', exit: 4, hint: 'See `veld list`.' },
  've.name_taken': { kind: 'conflict', exit: 5, hint: 'Choose another name.' },
  've.busy': { kind: 'conflict', exit: 6, hint: 'Wait for the operation under way (`veld operation list`), or cancel it.' },
  've.running': { kind: 'conflict', exit: 7, hint: 'Stop the VE first.' },
  've.not_running': { kind: 'conflict', exit: 8, hint: 'Start the VE first.' },
  've.frozen': { kind: 'conflict', exit: 9, hint: 'Thaw the VE first: `veld thaw NAME`.' },
  've.suspended': { kind: 'conflict', exit: 35, hint: '`veld resume NAME` brings it back; `veld start --discard-state NAME` boots it anew, and what it was doing is lost.' },
  've.not_suspended': { kind: 'conflict', exit: 36, hint: 'See `veld list`; `veld start NAME` boots a stopped VE.' },
  'snapshot.not_found': { kind: 'not_found', exit: 41, hint: 'See `veld snapshot list NAME`.' },
  'snapshot.name_taken': { kind: 'conflict', exit: 41, hint: 'Choose another name, or delete that one.' },
  'checkpoint.refused': { kind: 'conflict', exit: 37, hint: '`veld checkpoint --check NAME` lists what is in the way.' },
  'checkpoint.failed': { kind: 'internal', exit: 38, hint: 'The VE runs on as before. The daemon log has what criu said.' },
  'checkpoint.file': { kind: 'invalid', exit: 42, hint: 'Name a file on this node by its absolute path.' },
  'checkpoint.unusable': { kind: 'conflict', exit: 39, hint: '`veld start --discard-state NAME` boots the VE from its disk.' },
  'export.file': { kind: 'invalid', exit: 62, hint: 'Name a file on this node by its absolute path.' },
  'export.unusable': { kind: 'invalid', exit: 63, hint: 'Export the VE once more, or take another file.' },
  'repository.not_found': { kind: 'not_found', exit: 64, hint: 'See `veld repository list`.' },
  'repository.name_taken': { kind: 'conflict', exit: 64, hint: 'Choose another name.' },
  'repository.in_use': { kind: 'conflict', exit: 64, hint: 'Set another repository for these VEs, or none: `veld set NAME backup.repository=`.' },
  'repository.invalid': { kind: 'invalid', exit: 65, hint: 'See `veld help repository add`.' },
  'repository.unavailable': { kind: 'unavailable', exit: 66, hint: 'Look whether its disk is mounted, or the other machine can be reached by ssh without a question.' },
  'repository.damaged': { kind: 'internal', exit: 67, hint: 'restic\'s manual tells how to mend one: `restic rebuild-index`, `restic prune`, then a new backup. Keep what is there until then.' },
  'backup.not_found': { kind: 'not_found', exit: 68, hint: 'See `veld backup list`.' },
  'restore.failed': { kind: 'internal', exit: 40, hint: 'Its state is still there: try again, or `veld start --discard-state NAME`. The daemon log has what criu said.' },
  'restore.unhealthy': { kind: 'internal', exit: 40, hint: 'It runs: look into it with `veld enter NAME`, or `veld restart NAME`.' },
  'migration.refused': { kind: 'conflict', exit: 52, hint: 'Do what the message says, then try again; `veld migrate --dry-run VE NODE` only looks.' },
  'migration.link': { kind: 'unavailable', exit: 53, hint: 'Look whether the other node can be reached, and try again.' },
  'migration.stream': { kind: 'invalid', exit: 54, hint: 'The nodes may be of versions that do not fit, or the other one is not to be trusted: its log and this one\'s tell more.' },
  'migration.undecided': { kind: 'conflict', exit: 55, hint: 'As soon as the other node answers, this is settled by itself. `veld migrate --take-back VE` when it is gone for good.' },
  've.init_died': { kind: 'internal', exit: 10, hint: 'Read its last words with `veld logs NAME`, and `veld doctor`.' },
  've.start_failed': { kind: 'internal', exit: 10, hint: 'Read `veld logs NAME` and `veld doctor`.' },
  've.stop_failed': { kind: 'internal', exit: 11, hint: 'Try `veld stop --force NAME`.' },
  'property.unknown': { kind: 'invalid', exit: 12, hint: 'See `veld help properties`.' },
  'property.invalid': { kind: 'invalid', exit: 12, hint: 'See `veld help properties`.' },
  'property.not_live': { kind: 'conflict', exit: 13, hint: 'Stop the VE, or add --next-start to apply it at the next start.' },
  'property.unsupported': { kind: 'unsupported', exit: 14, hint: 'See `veld doctor` for what this kernel lacks.' },
  'name.invalid': { kind: 'invalid', exit: 12, hint: 'A name is 1 to 63 characters of a-z, 0-9 and -, and begins with a letter.' },
  'template.not_found': { kind: 'not_found', exit: 15, hint: 'See `veld template list`, or build one: `veld template build bookworm`.' },
  'template.in_use': { kind: 'conflict', exit: 16, hint: 'Destroy the VEs that use it first.' },
  'template.name_taken': { kind: 'conflict', exit: 16, hint: 'Choose another name, or delete the old template.' },
  'template.invalid': { kind: 'invalid', exit: 17, hint: 'The archive must hold a root file system with /sbin/init and /bin/sh; one for a single command is imported with --no-init.' },
  'template.cold': { kind: 'conflict', exit: 16, hint: 'They are booted as ever, and nothing need be done about it.' },
  'source.not_found': { kind: 'not_found', exit: 70, hint: 'See `veld template sources`.' },
  'source.invalid': { kind: 'invalid', exit: 71, hint: 'Correct its file; `veld template sources` names it.' },
  'source.unreachable': { kind: 'unavailable', exit: 72, hint: 'Try again; what has come of a file is gone on with. `veld template sources` shows its addresses.' },
  'source.untrusted': { kind: 'forbidden', exit: 73, hint: 'Nothing of it was kept. Ask whoever runs that server; its keyring here is named by `veld template sources`.' },
  'source.corrupt': { kind: 'invalid', exit: 74, hint: 'Nothing of it was kept. Try again later: a server that is just being filled may be out of step with its list.' },
  'image.not_found': { kind: 'not_found', exit: 75, hint: 'See `veld template search`.' },
  'image.busy': { kind: 'conflict', exit: 77, hint: 'Wait for it: see `veld operation list`.' },
  'image.ambiguous': { kind: 'invalid', exit: 76, hint: 'Say which, by its whole name.' },
  'template.build_failed': { kind: 'internal', exit: 18, hint: 'Read the end of the build log.' },
  'address.none_free': { kind: 'conflict', exit: 19, hint: 'Enlarge the pool (`network.pools` in the settings), or destroy VEs.' },
  'address.taken': { kind: 'conflict', exit: 19, hint: 'Choose another address.' },
  'port.taken': { kind: 'conflict', exit: 19, hint: 'Choose another port of the host, or free this one.' },
  'uid.none_free': { kind: 'conflict', exit: 20, hint: 'Destroy VEs: each node has 512 uid ranges.' },
  'disk.full': { kind: 'unavailable', exit: 21, hint: 'Free space in the state folder, then try again.' },
  'path.refused': { kind: 'forbidden', exit: 22, hint: 'The path leaves the VE, or is not an ordinary file.' },
  'exec.not_found': { kind: 'not_found', exit: 127, hint: 'The program does not exist in the VE.' },
  'exec.not_executable': { kind: 'invalid', exit: 126, hint: 'The file is not executable in the VE.' },
  'exec.interrupted': { kind: 'conflict', exit: 129, hint: 'Nothing from outside may run in the VE meanwhile: try again afterwards.' },
  'exec.failed': { kind: 'internal', exit: 125, hint: 'Read the daemon log.' },
  'copy.failed': { kind: 'invalid', exit: 34, hint: 'Nothing half copied stands under the name of the target.' },
  'engine.missing': { kind: 'unavailable', exit: 23, hint: 'Build it with `./quickstart`, or `veld engine build`.' },
  'engine.failed': { kind: 'internal', exit: 23, hint: 'Read the engine build log.' },
  'engine.release_expired': { kind: 'unavailable', exit: 23, hint: 'Use a mirror that is up to date, or allow it: engine.expiredRelease=record.' },
  'kernel.unsupported': { kind: 'unsupported', exit: 24, hint: 'See `veld doctor`.' },
  'network.no_bridge': { kind: 'conflict', exit: 25, hint: 'Make the bridge on the host (and let it be made at boot), or name another one in the property.' },
  'network.failed': { kind: 'internal', exit: 25, hint: 'See `veld doctor`, and the daemon log.' },
  'storage.failed': { kind: 'internal', exit: 26, hint: 'See the daemon log.' },
  'mount.refused': { kind: 'invalid', exit: 69, hint: 'See disk.mounts in docs/reference/properties.md.' },
  'pool.not_found': { kind: 'not_found', exit: 58, hint: 'See `veld pool list`.' },
  'pool.name_taken': { kind: 'conflict', exit: 59, hint: 'Choose another name, or another folder.' },
  'pool.in_use': { kind: 'conflict', exit: 59, hint: 'Destroy the VEs on it, and delete the snapshots and templates whose files lie there, first.' },
  'pool.invalid': { kind: 'invalid', exit: 60, hint: 'See `veld help pool create`.' },
  'pool.unavailable': { kind: 'unavailable', exit: 61, hint: 'Mount its disk again; `veld pool list` tells which pools are there.' },
  'layer.in_use': { kind: 'conflict', exit: 26, hint: 'A VE or template still stands on this layer.' },
  'operation.not_found': { kind: 'not_found', exit: 27, hint: 'See `veld operation list`.' },
  'operation.cancelled': { kind: 'cancelled', exit: 28, hint: 'Nothing was changed.' },
  'operation.interrupted': { kind: 'unavailable', exit: 29, hint: 'The daemon was stopped meanwhile and rolled the operation back; try again.' },
  'command.failed': { kind: 'internal', exit: 30, hint: 'Read the daemon log.' },
  timeout: { kind: 'unavailable', exit: 31, hint: 'Try again with a longer timeout.' },
  'session.invalid': { kind: 'forbidden', exit: 32, hint: 'Ask for a new session.' },
  'daemon.stopping': { kind: 'unavailable', exit: 3, hint: 'Try again when the new daemon is up.' },
  'daemon.overloaded': { kind: 'unavailable', exit: 33, hint: 'Too many at once: wait until some have ended, then try again.' },
  'operation.committed': { kind: 'conflict', exit: 28, hint: 'It can only be finished now: wait for it.' },
  'node.not_found': { kind: 'not_found', exit: 43, hint: 'See `veld node list`.' },
  'node.name_taken': { kind: 'conflict', exit: 43, hint: 'Choose another name, or remove that node: `veld node remove NAME`.' },
  'node.paired': { kind: 'conflict', exit: 43, hint: 'Remove the pairing first: `veld node remove NAME`.' },
  'node.not_listening': { kind: 'conflict', exit: 44, hint: 'Set nodes.listen in the settings, for example to "0.0.0.0:7430", and start the daemon again.' },
  'node.token_invalid': { kind: 'forbidden', exit: 45, hint: 'Make a new one on the other node with `veld node token`: a token is good for one attempt, within 10 minutes.' },
  'node.untrusted': { kind: 'forbidden', exit: 46, hint: 'Somebody else may answer at that address. If the other node was installed anew, remove it and pair again with a new token.' },
  'node.unreachable': { kind: 'unavailable', exit: 47, hint: 'Look whether veldd runs there, whether nodes.listen is set in its settings, and whether a firewall is between the two.' },
  'node.not_paired': { kind: 'forbidden', exit: 48, hint: 'Pair the two again: `veld node token` there, `veld node add` here.' },
  'node.not_allowed': { kind: 'forbidden', exit: 49, hint: 'Allow it on that node: `veld node set NAME allow=manage,migrate`.' },
  'node.protocol': { kind: 'unsupported', exit: 50, hint: 'Update Veld on the older of the two nodes.' },
  'node.failed': { kind: 'internal', exit: 51, hint: 'Look at the daemon logs of both nodes.' },
  'capacity.exceeded': { kind: 'conflict', exit: 56, hint: 'Give it less, stop other VEs, or let more be promised: overcommit.memory in the settings. `veld capacity` shows what is promised.' },
  'preset.not_found': { kind: 'not_found', exit: 57, hint: 'See `veld preset list`.' },
  'preset.invalid': { kind: 'invalid', exit: 57, hint: 'Correct the file; `veld preset list` names it, `veld help properties` lists what it may hold.' },
  'published.not_found': { kind: 'not_found', exit: 83, hint: 'See `veld template published`.' },
  'published.name_taken': { kind: 'conflict', exit: 84, hint: 'Choose another alias, or unpublish the other one first.' },
  'published.name_invalid': { kind: 'invalid', exit: 12, hint: 'Say what it is to be: --as DISTRIBUTION:RELEASE[/VARIANT], such as --as debian:12/web.' },
  'published.unsigned': { kind: 'unavailable', exit: 85, hint: 'Nothing was changed. Look at `gpg --list-secret-keys` for that folder; images.gnupgHome in the settings names it.' },
  'published.not_listening': { kind: 'internal', exit: 86, hint: 'Correct images.* in the settings, or free the port.' },
  'published.damaged': { kind: 'internal', exit: 87, hint: 'Move the folder away, start the daemon again, and publish anew; the templates themselves are not touched.' },
  'recipe.not_found': { kind: 'not_found', exit: 88, hint: 'See `veld template recipes`.' },
  'recipe.invalid': { kind: 'invalid', exit: 88, hint: 'Correct the file; docs/how-to/recipes.md tells what may stand in it.' },
  'store.corrupt': { kind: 'internal', exit: 3, hint: 'Stop the daemon, keep a copy of the file, and restore a backup (`veld.db.backup-v*` beside it).' },
  'template.secrets': { kind: 'conflict', exit: 78, hint: 'Remove them in the VE, and commit it again; or, where whoever gets the template may have them, say so: --allow-secrets.' },
  'template.unchanged': { kind: 'conflict', exit: 79, hint: 'Change something in the VE first.' },
  'version.not_found': { kind: 'not_found', exit: 80, hint: 'See `veld template history NAME`.' },
  'personal.invalid': { kind: 'invalid', exit: 81, hint: 'Nothing was made. See `veld help create`.' },
  'template.no_cloud_init': { kind: 'conflict', exit: 82, hint: 'Build or pull a template with cloud-init (`veld template build --include cloud-init`), or leave the data for it out: accounts, keys, locale and time zone need no program in the VE.' },
} as const satisfies Record<string, ErrorRow>;

/** A code of the table. */
export type ErrorCode = keyof typeof ERRORS;

/** The shape in which an error crosses the API. */
export interface ErrorBody {
  code: ErrorCode;
  message: string;
  hint: string;
  details?: Record<string, unknown>;
}

/** An error with a row in the table; everything that a user meets is one of these. */
export class VeldError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;
  readonly details: Record<string, unknown> | undefined;

  /**
   * @param code row of {@link ERRORS}
   * @param message what failed and why, one sentence with its subject named
   * @param options `hint` replaces the table's, `details` go to programs, `cause` goes to the log
   */
  constructor(code: ErrorCode, message: string, options: { hint?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'VeldError';
    this.code = code;
    this.hint = options.hint ?? ERRORS[code].hint;
    this.details = options.details;
  }

  get kind(): ErrorKind {
    return ERRORS[this.code].kind;
  }

  get http(): number {
    return HTTP_STATUS[this.kind];
  }

  get exit(): number {
    return ERRORS[this.code].exit;
  }

  /** The error as the API sends it. */
  toBody(): ErrorBody {
    return { code: this.code, message: this.message, hint: this.hint, ...(this.details && { details: this.details }) };
  }

  /** The error of an API answer; an unknown code becomes `internal`. */
  static fromBody(body: ErrorBody): VeldError {
    const code = body.code in ERRORS ? body.code : 'internal';
    return new VeldError(code, body.message, { hint: body.hint, ...(body.details && { details: body.details }) });
  }
}

/** Any thrown value as a VeldError: system errors get the row they deserve, the rest becomes `internal`. */
export function toVeldError(error: unknown): VeldError {
  if (error instanceof VeldError) return error;
  const e = error as NodeJS.ErrnoException;
  if (e?.name === 'AbortError') return new VeldError('operation.cancelled', 'The operation was cancelled.', { cause: error });
  if (e?.code === 'ENOSPC' || e?.code === 'EDQUOT') return new VeldError('disk.full', `No space left: ${e.message}.`, { cause: error });
  return new VeldError('internal', e?.message ?? String(error), { cause: error });
}
