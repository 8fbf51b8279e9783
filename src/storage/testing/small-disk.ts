/** Test helper, in a mount namespace of its own: what becomes of a stream that needs more than its target has. Argument: an empty folder. */
import { execFileSync } from 'node:child_process';
import { VeldError } from '../../lib/errors.ts';
import { receive, streamOf } from './trees.ts';

const [, , folder = ''] = process.argv;
execFileSync('/bin/mount', ['-t', 'tmpfs', '-o', 'size=1m', 'small', folder]);
try {
  await receive(folder, streamOf([{ path: './', type: '5' }, ...['a', 'b', 'c'].map((path) => ({ path, content: 'x'.repeat(1 << 20) }))]), 0);
  console.log('fits');
} catch (error) {
  console.log(error instanceof VeldError ? error.code : error);
}
