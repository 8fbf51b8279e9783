/** `export` and `import`: a VE without processes in one file, which any node can make a VE of. */
import { existsSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import { readSealed, recipient, writeSealed, type SealedKind } from '../../lib/sealed-file.ts';
import type { Task } from '../../ops/types.ts';
import type { VeRecord } from '../../store/types.ts';
import type { VeContext } from '../context.ts';
import { finishImport, importVe } from './read.ts';
import type { Exported, ExportRequest, VeImportRequest } from './types.ts';
import { exportStream } from './write.ts';

/** Its seal is the SHA-256 itself: it tells whether the file is whole, not who has written it. Nothing in it is trusted. */
const EXPORT: SealedKind = { magic: Buffer.from('VELDEX01'), sealLength: 32, codes: { file: 'export.file', unusable: 'export.unusable' }, called: 'an export of Veld' };

/** @throws VeldError `export.file` for a path that is not absolute */
export function checkExportFile(file: string): void {
  if (!isAbsolute(file)) throw new VeldError('export.file', `${JSON.stringify(file)} is not an absolute path.`);
}

/** Write a VE into a file. */
export async function exportVe(context: VeContext, uuid: string, { file, compress = 'zstd', encrypt, withTemplate = false }: ExportRequest, task: Task): Promise<Exported & { file: string; size: number }> {
  if (existsSync(file)) throw new VeldError('export.file', `${file} is there already.`, { hint: 'Choose another name, or remove it first.' });
  const whole: { exported?: Promise<Exported> } = {};
  const size = await writeSealed({
    kind: EXPORT, file, packing: { compress, ...encrypt !== undefined && { encrypt: recipient(encrypt) } }, seal: (digest) => digest, signal: task.signal, onProgress() {},
    source() {
      const source = exportStream(context, uuid, { withTemplate }, task);
      whole.exported = source.exported;
      return source;
    },
  });
  return { file, size, ...await whole.exported! };
}

/** Make a VE of a file; it is stopped. */
export async function importFile(context: VeContext, { file, identity, ...choices }: VeImportRequest, task: Task): Promise<VeRecord> {
  task.progress(1, 'verifying');
  let ve: VeRecord | undefined;
  await readSealed({
    kind: EXPORT, file, signal: task.signal, ...identity !== undefined && { identity },
    check: (digest, seal) => digest.equals(seal), wrong: [`${file} was changed or cut off.`, 'Its checksum is not that of its content. Copy it here once more.'],
  }, async (content) => {
    ve = await importVe(context, content, choices, task);
  });
  return finishImport(context, ve!, task);
}
