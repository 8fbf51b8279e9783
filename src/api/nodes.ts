/** Routes about other nodes. Users of other nodes are refused here: nobody changes pairings, or reaches a third node, from afar. */
import { Type } from '@fastify/type-provider-typebox';
import { answers } from './errors.ts';
import { passRoute } from './passing.ts';
import * as schemas from './schemas.ts';
import { VeldError } from '../lib/errors.ts';
import { USUAL_RIGHTS } from '../cluster/rights.ts';
import type { Api, RouteContext } from './types.ts';

const tags = ['nodes'];

/** Errors of whatever asks another node. */
const REMOTE = ['node.not_found', 'node.unreachable', 'node.untrusted', 'node.not_paired', 'node.protocol'] as const;

/** Add the routes. */
export function nodeRoutes(app: Api, context: RouteContext): void {
  const { nodes } = context.deps;
  if (!nodes) return;
  app.addHook('onRequest', (request, _reply, done) => {
    if (request.peer?.node !== undefined) throw new VeldError('node.not_allowed', 'Nodes are managed on the node itself, not by way of another one.', { hint: 'Run the command there.' });
    done();
  });

  app.get('/v1/node', {
    schema: { summary: 'This node as others see it', tags, querystring: schemas.NoQuery, response: answers({ 200: schemas.OwnNode }, 'node.failed') },
  }, (_request, reply) => reply.send(nodes.self()));

  app.post('/v1/node/tokens', {
    schema: {
      summary: 'Make a token: it lets another node pair with this one, once, within 10 minutes', tags, querystring: schemas.NoQuery, body: schemas.TokenBody,
      response: answers({ 200: schemas.NodeToken }, 'node.not_listening', 'name.invalid', 'usage', 'daemon.overloaded', 'node.failed'),
    },
  }, (request, reply) => {
    const { allow = [...USUAL_RIGHTS], ...rest } = request.body;
    return reply.send(nodes.token({ ...rest, allow }));
  });

  app.post('/v1/node/rotate', {
    schema: { summary: 'Make a new certificate of this node, or a new authority', tags, querystring: schemas.NoQuery, body: schemas.RotateBody, response: answers({ 200: schemas.NodeRotation }, 'node.failed') },
  }, (request) => nodes.rotate({ authority: request.body.authority ?? false, force: request.body.force ?? false }));

  app.get('/v1/nodes', {
    schema: { summary: 'Nodes that this one is paired with', tags, querystring: schemas.NodesQuery, response: answers({ 200: Type.Array(schemas.NodeView) }) },
  }, (request) => nodes.list(request.query.look ?? false));

  app.post('/v1/nodes', {
    schema: {
      summary: 'Pair with the node that made a token', tags, querystring: schemas.NoQuery, body: schemas.AddNodeBody,
      response: answers({ 200: schemas.NodeView }, 'node.token_invalid', 'node.untrusted', 'node.unreachable', 'node.name_taken', 'node.paired', 'node.protocol', 'name.invalid', 'usage', 'node.failed', 'daemon.overloaded'),
    },
  }, (request) => {
    const { allow = [...USUAL_RIGHTS], ...rest } = request.body;
    request.audit = { node: rest.name, address: rest.address ?? null, allow };
    return nodes.add({ ...rest, allow });
  });

  app.get('/v1/nodes/:node', {
    schema: { summary: 'One node, asked how it is', tags, params: schemas.NodeParams, querystring: schemas.NoQuery, response: answers({ 200: schemas.NodeView }, 'node.not_found') },
  }, (request) => nodes.view(request.params.node));

  app.patch('/v1/nodes/:node', {
    schema: {
      summary: 'Change the name, the address, or what a node may do here', tags, params: schemas.NodeParams, querystring: schemas.NoQuery, body: schemas.SetNodeBody,
      response: answers({ 200: schemas.NodeView }, 'node.not_found', 'node.name_taken', 'name.invalid', 'usage'),
    },
  }, (request) => {
    request.audit = { ...request.body };
    return nodes.set(request.params.node, request.body);
  });

  app.delete('/v1/nodes/:node', {
    schema: {
      summary: 'End a pairing at once, with all connections, and tell the other side', tags, params: schemas.NodeParams, querystring: schemas.NoQuery,
      response: answers({ 200: schemas.NodeRemoved }, 'node.not_found'),
    },
  }, (request) => nodes.remove(request.params.node));

  passRoute(app, nodes, answers({ 200: { description: 'What that node answers' } }, ...REMOTE, 'node.not_allowed'));
}
