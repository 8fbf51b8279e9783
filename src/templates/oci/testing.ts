/** Images of applications for tests: a layout with two layers, made by umoci, and a registry that has it. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { join } from 'node:path';

/** Make a layout with the image `app`. @param fill shell, which fills two layers: `$1` and `$2` @param config options of `umoci config` */
export function makeLayout(folder: string, fill: string, config: readonly string[]): void {
  const run = (program: string, ...args: string[]): void => void execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const image = `${folder}:app`;
  const layers = ['one', 'two'].map((name) => join(`${folder}.layers`, name));
  for (const layer of layers) mkdirSync(layer, { recursive: true });
  run('/bin/sh', '-ec', fill, 'sh', ...layers);
  run('umoci', 'init', '--layout', folder);
  run('umoci', 'new', '--image', image);
  for (const layer of layers) {
    run('tar', '--create', '--numeric-owner', `--file=${layer}.tar`, '-C', layer, '.');
    run('umoci', 'raw', 'add-layer', '--image', image, `${layer}.tar`);
  }
  run('umoci', 'config', '--image', image, ...config);
  rmSync(`${folder}.layers`, { recursive: true });
}

/** A registry with the image of a layout, as `app:1`. Source: OCI distribution specification, "Pull". @param asked is told each path */
export function registryOf(layout: string, asked: (path: string) => void = () => {}): RequestListener {
  const { manifests: [{ digest, mediaType }] } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as { manifests: [{ digest: string; mediaType: string }] };
  return ({ url = '' }, answer) => {
    asked(url);
    const blob = url === '/v2/app/manifests/1' ? digest : /^\/v2\/app\/(?:blobs|manifests)\/(sha256:[0-9a-f]{64})$/.exec(url)?.[1];
    const name = blob?.slice('sha256:'.length);
    if (url === '/v2/') answer.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    else if (name === undefined || !readdirSync(join(layout, 'blobs/sha256')).includes(name)) answer.writeHead(404, { 'content-type': 'application/json' }).end('{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
    else answer.writeHead(200, { 'content-type': url.includes('/manifests/') ? mediaType : 'application/octet-stream', 'docker-content-digest': blob! }).end(readFileSync(join(layout, 'blobs/sha256', name)));
  };
}

/** Change a blob of a layout, which keeps its name. @param which by its content */
export function spoil(layout: string, which: (content: Buffer) => boolean): void {
  const folder = join(layout, 'blobs/sha256');
  for (const name of readdirSync(folder)) {
    const content = readFileSync(join(folder, name));
    if (!which(content)) continue;
    content[content.length >> 1]! ^= 1;
    writeFileSync(join(folder, name), content);
  }
}
