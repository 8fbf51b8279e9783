/** Body of POST /v1/ves: a VE, and what is laid into it for its users. What of the latter is wrong is told by `personal.invalid`, in words that no pattern has. */
import { Type } from '@fastify/type-provider-typebox';
import { createFields } from './schemas.ts';

const closed = { additionalProperties: false } as const;

/** Far above what is taken, so that who exceeds it is told so in words. */
const long = (description: string) => Type.Optional(Type.String({ maxLength: 262_144, description }));

const login = {
  sshKeys: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 65_536 }), { maxItems: 200, description: 'Public keys, as lines of authorized_keys without options' })),
  passwordHash: Type.Optional(Type.String({ maxLength: 1024, description: 'As in shadow(5): yescrypt, bcrypt, sha512crypt or sha256crypt. Never the password itself' })),
};

const Personal = Type.Object({
  users: Type.Optional(Type.Array(Type.Object({
    name: Type.String({ maxLength: 200 }), ...login, sudo: Type.Optional(Type.Boolean({ description: 'It may do everything, by sudo' })),
  }, closed), { maxItems: 16, description: 'Accounts to make' })),
  root: Type.Optional(Type.Object(login, closed)),
  locale: Type.Optional(Type.String({ maxLength: 200, description: 'Such as C.UTF-8; the VE boots then, rather than being a spare' })),
  timezone: Type.Optional(Type.String({ maxLength: 200, description: 'Such as Europe/Berlin; the same' })),
  cloudInit: Type.Optional(Type.Object({
    userData: long('At most 65536 bytes'), vendorData: long('The same'), networkConfig: long('Instead of the network that Veld has set up already'),
  }, { ...closed, description: 'Files of cloud-init\'s datasource NoCloud, in a template that has it' })),
}, { ...closed, description: 'Laid into the VE before it first runs, and kept nowhere else' });

/** What a new VE is to be. */
export const CreateBody = Type.Object({ ...createFields, personal: Type.Optional(Personal) }, {
  ...closed, title: 'CreateRequest',
  examples: [{ name: 'web', template: 'debian-12', properties: { 'memory.limit': '1G' }, start: true, personal: { users: [{ name: 'alice', sudo: true }], timezone: 'Europe/Berlin' } }],
});
