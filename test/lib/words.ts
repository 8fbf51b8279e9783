/** How a test talks to an instance: commands that must succeed, those that must be refused, and what a VE says. */
import assert from 'node:assert/strict';
import type { Instance } from './instance.ts';

export interface Words {
  /** `veld ARGS` must succeed. @returns its standard output */
  ok(...args: string[]): Promise<string>;
  /** `veld ARGS` must end with a status, and say why. */
  refused(status: number, words: RegExp, ...args: string[]): Promise<void>;
  /** A command line in a VE must succeed. @returns what it printed */
  said(ve: string, command: string): Promise<string>;
}

export function wordsWith(veld: Instance): Words {
  return {
    async ok(...args) {
      const { code, stdout, stderr } = await veld.cli(...args);
      assert.equal(code, 0, `veld ${args.join(' ')}: ${stderr}`);
      return stdout;
    },
    async refused(status, words, ...args) {
      const { code, stderr } = await veld.cli(...args);
      assert.match(stderr, words, `veld ${args.join(' ')}`);
      assert.equal(code, status, stderr);
    },
    async said(ve, command) {
      const { stdout, stderr, exitCode } = await veld.exec(ve, 'sh', '-c', command);
      assert.equal(exitCode, 0, `${command}: ${stderr}`);
      return stdout.trim();
    },
  };
}
