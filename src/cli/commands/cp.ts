/** `veld cp` */
import type { Client } from '../../client/client.ts';
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import type { Context } from '../context.ts';
import { copyContent, writeContent } from '../copy/content.ts';
import { copyTree } from '../copy/tree.ts';
import { parsePlace, type Place } from '../copy/places.ts';
import { copyProgress } from '../copy/progress.ts';

interface Options {
  follow?: boolean;
  privileged?: boolean;
  quiet?: boolean;
}

export const command = defineCommand<{ source: string; target: string }, Options>({
  name: 'cp',
  group: 'Looking at VEs',
  summary: 'Copy files into, out of, and between VEs',
  description: [
    'A place in a VE is written VE:/PATH. Files, folders and links are copied with their numeric owners, modes, times, extended attributes and holes, as by cp -a; a link stays a link. Into an existing folder the source goes under its own name; a source that ends with /. gives its content. A VE needs no program for it and must be running.',
    'A file, and a folder that is new, appears under its name when it is whole; a folder that exists is merged into. What is in the place of the target is replaced, never followed. With - as the target a file\'s content goes to standard output, with - as the source standard input becomes a file.',
    'From a VE no device nodes come, and set-user-id bits, set-group-id bits and file capabilities of files are dropped, unless --privileged says otherwise: on this side they would be yours.',
  ],
  args: [
    { name: 'source', help: 'VE:/PATH, a local path, or - for standard input' },
    { name: 'target', help: 'VE:/PATH, a local path, or - for standard output' },
  ],
  options: [
    { flags: '-L, --follow', help: 'Follow a link that the source itself is' },
    { flags: '-p, --privileged', help: 'With device nodes, set-user-id and set-group-id bits, and file capabilities' },
    { flags: '-q, --quiet', help: 'Show no progress' },
  ],
  examples: [
    ['cp site.conf web:/etc/nginx/conf.d/', 'A file into a folder'],
    ['cp web:/var/log backup', 'A folder out of a VE'],
    ['cp web:/srv/. db:/srv/', 'The content of a folder from one VE to another'],
    ['cp web:/etc/motd -', 'A file to standard output'],
    ['cp - web:/root/dump.sql', 'Standard input into a file'],
  ],
  errors: ['ve.not_found', 've.not_running', 've.frozen', 'path.refused', 'copy.failed', 'disk.full', 'exec.failed', 'engine.missing', 'operation.cancelled', 'session.invalid'],
  async run(context, { source, target }, options) {
    const [from, to] = [parsePlace(source), parsePlace(target)];
    if (from.kind !== 've' && to.kind !== 've') throw new VeldError('usage', 'cp: neither place is in a VE.', { hint: 'A place in a VE is written NAME:/PATH.' });
    const client = await context.client();
    const cancel = new AbortController();
    const onSignal = (): void => cancel.abort(new VeldError('operation.cancelled', 'The copy was cancelled.', { hint: 'Nothing half copied stands under the name of the target.' }));
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
    try {
      await copy(context, client, from, to, options, cancel.signal);
    } finally {
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, onSignal);
    }
  },
});

async function copy(context: Context, client: Client, from: Place, to: Place, options: Options, signal: AbortSignal): Promise<void> {
  const progress = copyProgress(options.quiet === true ? { err: () => {}, errIsTerminal: false } : context, `${from.shown} to ${to.shown}`);
  const job = { client, follow: options.follow === true, privileged: options.privileged === true, progress, signal };
  let odd = '';
  try {
    if (to.kind === 'stream') await copyContent(job, from as Place & { kind: 've' }, process.stdout);
    else if (from.kind === 'stream') await writeContent(job, process.stdin, to as Place & { kind: 've' });
    else odd = await copyTree(job, from, to);
  } finally {
    progress.clear();
  }
  if (odd !== '') context.err(odd);
}
