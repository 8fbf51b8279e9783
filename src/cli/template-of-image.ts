/** `veld create --template ubuntu:24.04`: the name of an image in the place of a template's. */
import type { TemplateRecord } from '../store/types.ts';
import type { Context } from './context.ts';
import { runJob } from './operations.ts';

/**
 * The template that is meant.
 * @param wanted name or fingerprint of a template, which is given back as it is; or name of an image (they have a colon, templates have none): one that is here under its usual name or that was made of
 *   it, whatever its version, and else the newest, pulled now
 * @throws VeldError those of `template pull`
 */
export async function templateOf(context: Context, wanted: string): Promise<string> {
  if (!wanted.includes(':')) return wanted;
  const usual = wanted.toLowerCase().replaceAll(/[:/_]/g, '-');
  const templates = await (await context.client()).request<TemplateRecord[]>('GET', '/v1/templates');
  if (templates.some(({ name, source }) => name === usual && source.kind === 'image')) return usual;
  const record = await runJob(context, { label: wanted, method: 'POST', path: '/v1/templates/pull', body: { image: wanted, any: true } }, {});
  return (record.result as TemplateRecord).name;
}
