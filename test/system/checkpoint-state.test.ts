/**
 * What of a VE's state survives suspend and resume, kind by kind: see state/suite.ts. In `./check full`, or with STATE_PROGRAMS.
 *
 * Not in every run: a watched file or folder of the template cannot be dumped any more once it was changed and the kernel has forgotten it meanwhile (its number
 * in fdinfo is another one then than stat(2) gives). With so many programs in one VE, on a machine that empties its caches, that comes now and then.
 */
import { test } from 'node:test';

const wanted = process.env.VELD_TEST_FULL !== undefined || process.env.STATE_PROGRAMS !== undefined;

if (wanted) await import('./state/suite.ts');
else test('each kind of object of the kernel', { skip: 'in ./check full' }, () => {});
