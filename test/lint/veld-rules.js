/**
 * Veld's own lint rules, loaded by oxlint (`jsPlugins` in .oxlintrc.json).
 *
 * They see names, not values: they catch the honest mistake, the suite of hostile trees (test/system/) shows the rest.
 */

/** Functions of node:fs that take a path first (and of node:fs/promises). */
const FS_MODULES = new Set(['fs', 'node:fs', 'fs/promises', 'node:fs/promises']);

/** Names that a path into a VE's tree goes by: its root, its upper, its merged view, or the root of one of its processes. */
const GUEST_PATH = /\/proc\/\$\{[^}]*\}\/(root|cwd)\b|\b(rootfs|guestRoot|veRoot|guestPath|mergedDir|merged|upper|upperDir|upperPath)\b/;

/** `fs.*` on a path inside a VE: host root would follow the VE's symlinks. Only kernel/guest-tree.ts may touch such paths. */
const guestPaths = {
  create(context) {
    const functions = new Set();
    const namespaces = new Set();
    const text = (node) => context.sourceCode.getText(node);
    return {
      ImportDeclaration(node) {
        if (!FS_MODULES.has(node.source.value)) return;
        for (const s of node.specifiers) (s.type === 'ImportSpecifier' && s.imported.name !== 'promises' ? functions : namespaces).add(s.local.name);
      },
      CallExpression(node) {
        const callee = node.callee;
        const isFs = callee.type === 'Identifier'
          ? functions.has(callee.name)
          : callee.type === 'MemberExpression' && namespaces.has(text(callee).split(/[.?[]/)[0]);
        if (!isFs) return;
        const guilty = node.arguments.find((argument) => GUEST_PATH.test(text(argument)));
        if (guilty) context.report({ node, message: `fs call on what looks like a path inside a VE (${text(guilty)}): use kernel/guest-tree.ts, which never follows a VE's links.` });
      },
    };
  },
};

/** What a door may load lazily from another folder. */
const LAZY = /^(\.\.\/)+(lib|client|spec)\//;

/** `import()` is not seen by no-restricted-imports, so it may only name a file of the same folder, a package, or (doors) what LAZY says. */
const ownFolderDynamicImport = {
  create(context) {
    return {
      ImportExpression(node) {
        const source = node.source;
        const door = /\/src\/(cli|vz)\//.test(context.filename);
        if (source.type !== 'Literal') context.report({ node, message: 'import() needs a literal, so that the floors can be checked.' });
        else if (String(source.value).startsWith('..') && !(door && (LAZY.test(source.value) || !/^(\.\.\/)+[a-z]+\//.test(source.value)))) context.report({ node, message: 'import() of another folder passes the check of the floors by: import it statically.' });
      },
    };
  },
};

/** No shell between Veld and a program: `exec`, `execSync` and the `shell` option are refused. */
const noShell = {
  create(context) {
    return {
      ImportDeclaration(node) {
        if (!/^(node:)?child_process$/.test(node.source.value)) return;
        for (const s of node.specifiers) {
          if (s.type !== 'ImportSpecifier') context.report({ node: s, message: 'Import single functions of node:child_process.' });
          else if (/^exec(Sync)?$/.test(s.imported.name)) context.report({ node: s, message: `${s.imported.name} runs a shell: use run() of src/lib/run.ts.` });
        }
      },
      Property(node) {
        if (node.key.name === 'shell' && node.value.type === 'Literal' && node.value.value === true) {
          context.report({ node, message: 'No shell: give an argument vector.' });
        }
      },
    };
  },
};

export default {
  meta: { name: 'veld' },
  rules: { 'guest-paths': guestPaths, 'own-folder-dynamic-import': ownFolderDynamicImport, 'no-shell': noShell },
};
