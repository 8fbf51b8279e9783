/** How a request that started an operation is answered: with its record at once, or with each of its changes until it has ended. */
import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { Operation } from './schemas.ts';
import { answers } from './errors.ts';
import type { ErrorCode } from '../lib/errors.ts';
import type { OperationRecord } from '../store/types.ts';
import type { ApiOperations } from './types.ts';

/** Response schemas of routes that start an operation. @param codes errors of the route */
export function operationAnswers(...codes: ErrorCode[]) {
  return answers({
    200: { description: 'With `wait`: one record a line whenever it changes, the last one ended', content: { 'application/x-ndjson': { schema: Operation } } },
    202: Operation,
  }, ...codes);
}

/**
 * The changes of an operation as lines of JSON. A slow reader misses changes in between, never the last.
 * A reader that goes away stops reading, not the operation.
 */
export function operationLines(operations: ApiOperations, id: string): Readable {
  let latest: OperationRecord | undefined;
  let wanted = false;
  let stop = (): void => {};
  const push = (): void => {
    if (!wanted || latest === undefined || stream.destroyed) return;
    const record = latest;
    latest = undefined;
    wanted = stream.push(`${JSON.stringify(record)}\n`);
    if (record.endedAt !== null) stream.push(null);
  };
  const stream = new Readable({
    highWaterMark: 16_384,
    read() {
      wanted = true;
      push();
    },
    destroy(error, done) {
      stop();
      done(error);
    },
  });
  // Tells the record as it is now, too.
  stop = operations.watch(id, (record) => {
    latest = record;
    push();
  });
  return stream;
}

/** Send the answer: 202 and the record, or, when the client waits, its changes. */
export function answerOperation(reply: FastifyReply, operations: ApiOperations, record: OperationRecord, wait: boolean | undefined): FastifyReply {
  void reply.header('location', `/v1/operations/${record.id}`);
  if (!wait) return reply.code(202).send(record);
  return reply.code(200).type('application/x-ndjson').send(operationLines(operations, record.id));
}
