/** The records of a store that another process may have open: for a support bundle, also while the daemon is down or does not answer. */
import { connectReadOnly } from './connection.ts';
import { MIGRATIONS } from './migrations.ts';
import { readers } from './sqlite.ts';
import type { JournalRecord, LayerRecord, OperationRecord, TemplateRecord, VeRecord } from './types.ts';

export interface StoreRecords {
  ves: VeRecord[];
  templates: TemplateRecord[];
  layers: LayerRecord[];
  /** Newest first. */
  operations: OperationRecord[];
  journal: JournalRecord[];
}

/**
 * Read everything but what is nobody's business; nothing is written, and an older store is not migrated.
 * @param operations how many, at most
 * @throws VeldError `store.corrupt`, `store.too_new`
 */
export function readRecords(file: string, operations: number): StoreRecords {
  const db = connectReadOnly(file, MIGRATIONS.length);
  try {
    const store = readers(db);
    return { ves: store.listVes(), templates: store.listTemplates(), layers: store.listLayers(), operations: store.listOperations(operations), journal: store.listJournal() };
  } finally {
    db.close();
  }
}
