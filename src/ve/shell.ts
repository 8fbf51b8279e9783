/** `enter`: a login shell of a user of a running VE. */
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { enterableInit, execInVe } from './exec.ts';
import { resolveLogin } from './resolve-user.ts';
import type { ExecSession, ShellRequest } from './types.ts';

/**
 * Begin the shell that the VE's passwd names for the user, as a login shell (`-l`: every shell since the nineties knows it), in the user's home, with
 * the VE's own locale. A shell that does not exist gives way to bash or sh: this is how one gets in to mend things.
 * Nothing of PAM: no session of logind, no lines in utmp; `login` inside makes these.
 * @throws VeldError as {@link execInVe}
 */
export async function openShell(context: VeContext, ve: VeRecord, request: ShellRequest): Promise<ExecSession> {
  const { shell, locale } = await resolveLogin(enterableInit(context, ve), request.user ?? 'root');
  return execInVe(context, ve, { ...request, command: [shell, '-l'], env: { ...locale, SHELL: shell, ...request.env } });
}
