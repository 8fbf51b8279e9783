/**
 * Builds dist/veld.cjs, dist/veldd.cjs, dist/veld-exchange.cjs and dist/veld-console.cjs: CommonJS, one file each, for node.
 *
 * Outside stay node's own modules and koffi (it loads a native part from beside itself; node finds it in node_modules, from dist/ too).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { defineConfig } from 'rolldown';
import type { Plugin, RolldownOptions } from 'rolldown';

const root = import.meta.dirname;
const dist = join(root, 'dist');

/**
 * A module that looks for files beside itself (`new URL('../../libexec', import.meta.url)`) must find them from the bundle, too:
 * each keeps the address of its source file, told from the bundle's own place, so that the whole tree may be moved.
 */
const keepPlaces: Plugin = {
  name: 'keep-places',
  transform: {
    filter: { id: /\/src\/.*\.ts$/, code: /import\.meta\.(url|dirname|filename)/ },
    handler(code, id) {
      const file = `require('node:path').join(__dirname, ${JSON.stringify(relative(dist, id))})`;
      const folder = `require('node:path').join(__dirname, ${JSON.stringify(relative(dist, dirname(id)))})`;
      return code.replaceAll('import.meta.url', `require('node:url').pathToFileURL(${file}).href`)
        .replaceAll('import.meta.filename', file).replaceAll('import.meta.dirname', folder);
    },
  },
};

/**
 * Node's own modules are loaded when something of them is first used. rolldown puts them all at the top of the bundle, also those of commands that
 * are not asked for: node:crypto alone takes 4 of the 20 ms that `veld list` spends beyond the start of an empty Node.
 */
const loadWhenUsed: Plugin = {
  name: 'load-when-used',
  renderChunk(code) {
    const names: string[] = [];
    const head = code.replaceAll(/^let (node_\w+) = require\("(node:[\w/]+)"\);$/gm, (_, name: string, module: string) => {
      names.push(name);
      return `function ${name}() { return ${name}.loaded ??= require("${module}"); }`;
    });
    const text = names.reduce((text, name) => text.replaceAll(new RegExp(`\\b${name}\\.(?!loaded\\b)`, 'g'), `(${name}()).`), head);
    const missed = names.find((name) => new RegExp(`\\b${name}\\b(?!\\(\\)|\\.loaded\\b)`).test(text));
    if (missed !== undefined) throw new Error(`${missed} is used in a way that load-when-used does not know.`);
    return text;
  },
};

/** commander would load node:child_process at once, for commands that are programs of their own; we have none. It takes 3 ms. */
const quickCommander: Plugin = {
  name: 'quick-commander',
  transform: {
    filter: { id: /\/commander\/lib\/command\.js$/ },
    handler(code) {
      const line = "const childProcess = require('node:child_process');";
      if (!code.includes(line)) throw new Error('commander has changed: quick-commander does not find its line.');
      return code.replace(line, "const childProcess = { spawn: (...words) => require('node:child_process').spawn(...words) };");
    },
  },
};

/** The first run after a build compiles, and bin/veld keeps what it compiled: let that be the build's run, not the user's. Functions that it does not call are not kept. */
const warmUp: Plugin = {
  name: 'warm-up',
  closeBundle() {
    rmSync(join(dist, '.cache'), { recursive: true, force: true });
    spawnSync(join(root, 'bin/veld'), ['--socket', '/nonexistent', 'exec', '-T', 'none', '--', 'true'], { stdio: 'ignore' });
  },
};

/** What is written in C (what counts sockets, files and locks of VEs, what criu loads, and what VEs ask for their quotas with) is compiled with the bundle, so that no host needs clang. Where there is none here, the daemon will try. */
const compileC: Plugin = {
  name: 'compile-c',
  async closeBundle() {
    const { compileOwnerLibrary } = await import('./src/kernel/namespace-owner.ts');
    await compileOwnerLibrary(root).catch((error: unknown) => { console.warn(String(error)); });
    const { compileQuotaClient } = await import('./src/kernel/quota-client.ts');
    await compileQuotaClient(root).catch((error: unknown) => { console.warn(String(error)); });
    const { compilePrograms, objectFile, SOURCES } = await import('./src/resources/beancounters/compile.ts');
    for (const source of Object.keys(SOURCES) as (keyof typeof SOURCES)[]) {
      await compilePrograms(source, objectFile(source, root)).catch((error: unknown) => { console.warn(String(error)); });
    }
  },
};

function bundle(name: string, input: string): RolldownOptions {
  return {
    input: join(root, input),
    platform: 'node',
    external: [/^node:/, 'koffi'],
    plugins: name === 'veld' ? [keepPlaces, quickCommander, loadWhenUsed, warmUp] : name === 'veldd' ? [keepPlaces, compileC] : [keepPlaces],
    output: {
      file: join(dist, `${name}.cjs`),
      format: 'cjs',
      codeSplitting: false,
      charset: 'ascii', // V8 keeps the source text: with one character beyond Latin-1 in it, each takes two bytes
      comments: { legal: true, annotation: false, jsdoc: false },
    },
  };
}

const targets: [name: string, input: string][] = [['veld', 'src/cli/main.ts'], ['veldd', 'src/daemon.ts'], ['veld-exchange', 'src/kernel/lxcfs-exchange.ts'],
  ['veld-console', 'src/kernel/console-give.ts']];

export default defineConfig(targets.filter(([, input]) => existsSync(join(root, input))).map(([name, input]) => bundle(name, input)));
