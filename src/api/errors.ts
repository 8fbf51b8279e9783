/** How failures leave the API: always `{ "error": ErrorBody }`, with the HTTP status of the error's kind. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { Type, type TSchema } from '@fastify/type-provider-typebox';
import { ERRORS, HTTP_STATUS, VeldError, toVeldError, type ErrorCode } from '../lib/errors.ts';
import { ErrorBodySchema } from './schemas.ts';

/** What any route may answer besides its own errors. */
const COMMON: readonly ErrorCode[] = ['request.invalid', 'internal', 'disk.full', 'daemon.stopping', 'daemon.unreachable'];

/**
 * The response schemas of a route: its good answers and the errors it declares, by HTTP status.
 * @param good schemas of the good answers by status
 * @param codes errors of this route; those that any route may answer are added
 */
export function answers(good: Record<number, object>, ...codes: ErrorCode[]): Record<string, TSchema> {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of new Set([...codes, ...COMMON])) {
    const status = HTTP_STATUS[ERRORS[code].kind];
    byStatus.set(status, [...byStatus.get(status) ?? [], code]);
  }
  const bad = [...byStatus].map(([status, rows]) => [status, Type.Object({ error: ErrorBodySchema }, { description: rows.join(', '), 'x-codes': rows })]);
  return { ...good, ...Object.fromEntries(bad) as Record<string, TSchema> };
}

interface ValidationIssue {
  instancePath?: string;
  message?: string;
  params?: { additionalProperties?: string[]; requiredProperties?: string[] };
}

/** Name the field that a request got wrong. */
function explain(error: FastifyError): VeldError {
  const issues = (error.validation ?? []) as unknown as ValidationIssue[];
  const unknown = issues.find((issue) => issue.params?.additionalProperties !== undefined);
  const issue = unknown ?? issues[0] ?? {};
  const part = error.validationContext ?? 'body';
  const path = (issue.instancePath ?? '').split('/').filter(Boolean).map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'));
  const extra = unknown?.params?.additionalProperties?.[0] ?? issue.params?.requiredProperties?.[0];
  if (extra !== undefined) path.push(extra);
  const field = path.join('.').slice(0, 200);
  const where = part === 'body' ? 'the body' : part === 'params' ? 'the path' : 'the query';
  let why = `${field === '' ? 'it' : field} ${issue.message ?? 'is not valid'}`;
  if (unknown) why = `${field} is not known`;
  else if (issue.params?.requiredProperties !== undefined) why = `${field} is missing`;
  return new VeldError('request.invalid', `The request is not valid: in ${where} ${why}.`, { details: { in: part, field } });
}

/** Messages repeat the path, which may be long. */
function clip(text: string): string {
  return text.length > 300 ? `${text.slice(0, 300)}...` : text;
}

/** Any error of a request, fastify's own included, as a row of the table. */
export function toApiError(error: unknown): VeldError {
  if (error instanceof VeldError) return error;
  const e = error as FastifyError;
  if (e?.validation !== undefined) return explain(e);
  if (e?.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new VeldError('request.invalid', 'The request is not valid: the body is too large.', { cause: error });
  const refused = typeof e?.statusCode === 'number' && e.statusCode >= 400 && e.statusCode < 500;
  if (refused) return new VeldError('request.invalid', `The request is not valid: ${clip(e.message).replace(/\.$/, '')}.`, { cause: error });
  const known = toVeldError(error);
  if (known.code !== 'internal') return known;
  // What an unexpected error says may hold anything: the log has it, the client gets the way to it.
  return new VeldError('internal', 'The daemon met an unexpected error.', { cause: error });
}

/** Answer a request with its error, and log what nobody expected. */
export function handleError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const known = toApiError(error);
  if (known.kind === 'internal') request.log.error({ err: known }, `${request.method} failed`);
  else request.log.debug({ err: { code: known.code, message: known.message, details: known.details } }, 'refused');
  const body = known.toBody();
  if (known.code === 'internal') body.details = { ...body.details, requestId: request.id };
  void reply.code(known.http).type('application/json; charset=utf-8').send({ error: body });
}

/** Answer for routes that do not exist. */
export function handleNotFound(request: FastifyRequest): never {
  throw new VeldError('route.not_found', `There is no ${request.method} ${request.url.split('?')[0]?.slice(0, 200)}.`);
}

/** Answer to bytes that are not HTTP. */
export function handleClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const refused = new VeldError('request.invalid', 'The request is not valid: it is not proper HTTP.');
  const body = JSON.stringify({ error: refused.toBody() });
  socket.end(`HTTP/1.1 400 ${STATUS_CODES[400]}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`);
}
