/** A tenant: its routes, its database, its schemas in order, its roles and build settings. */
import { z } from "zod";
import { parseTenantId, type TenantId } from "../shared/kernel/ids.ts";
import type { SchemaBinding } from "../shared/protocol/messages.ts";
import { ConfigError, faultsOf } from "../validation/config-error.ts";
import { identifier, roleName, schemaName, text } from "../validation/identifiers.ts";
import { duplicates, keyed, oneForm } from "../validation/one-of.ts";
import { normaliseHost } from "./host-name.ts";
import { type JwtRules, jwtRecord } from "./jwt-config.ts";
import { type SessionRules, sessionRecord, sessionRules } from "./session-config.ts";

export interface Tenant {
  readonly id: TenantId;
  /** As `normaliseHost` writes them. */
  readonly hosts: readonly string[];
  readonly database: string;
  readonly api: string | null;
  readonly mode: string | null;
  /** At least one, in search path order. */
  readonly schemas: readonly SchemaBinding[];
  /** After the served ones in the search path; none of them is served. */
  readonly sharedSchemas: readonly string[];
  readonly roles: TenantRoles;
  /** Flags that choose between variants of a build. */
  readonly settings: Readonly<Record<string, string | boolean>>;
  /** Null where the tenant takes no JWTs. */
  readonly jwt: JwtRules | null;
  /** Null where no function knows the tenant's tokens; never beside `jwt`. */
  readonly session: SessionRules | null;
}

export interface TenantRoles {
  readonly anonymous: string | null;
  readonly authenticated: string | null;
  /** That a token may name, beside those two. */
  readonly others: readonly string[];
}

/** Every role that a request of the tenant may take. */
export function listedRoles({ anonymous, authenticated, others }: TenantRoles): string[] {
  return [...new Set([anonymous, authenticated, ...others])].filter((role) => role !== null);
}

/** What a record may leave to its surroundings. */
export interface TenantDefaults {
  /** For records that name no database; null where there is no obvious one. */
  readonly database: string | null;
  /** The names of the configured databases. */
  readonly databases: readonly string[];
}

/** What a person writes: see `Tenant` in the configuration's documentation. */
export type TenantInput = z.input<typeof tenantRecord>;
export type TenantRecord = z.output<typeof tenantRecord>;

const defaultShared = ["public"];

const host = text.transform((value, context): string => {
  const normalised = normaliseHost(value);
  if (normalised !== undefined) return normalised;
  context.addIssue("must be a host name or address, without a scheme or path");
  return z.NEVER;
});

const id = z.string().transform((value, context): TenantId => {
  const parsed = parseTenantId(value);
  if (parsed !== undefined) return parsed;
  context.addIssue(
    "must be 1 to 63 letters, digits, dots, hyphens or underscores, the first a letter or digit",
  );
  return z.NEVER;
});

const namedAlike = schemaName.transform((name): SchemaBinding => ({ logical: name, physical: name }));
/** A build has PostgreSQL's own beside the tenant's. */
const logicalName = identifier.refine(
  (value) => value !== "pg_catalog" && value !== "information_schema",
  "is PostgreSQL's own: no logical schema can be called so",
);

const bound = keyed({ logical: logicalName, physical: schemaName });
const binding = oneForm<SchemaBinding, string | SchemaBinding>(
  (value) => (typeof value === "string" ? namedAlike : bound),
  ["", {}],
);

/** JavaScript moves such keys to the front, whatever the order they were written in. */
const logicalKey = logicalName.refine(
  (value) => !/^\d+$/.test(value),
  "a name of digits loses its place in an object: use the array form",
);

/** Logical to physical, in key order. */
const schemaMap = z
  .record(logicalKey, schemaName)
  .transform((map) => Object.entries(map).map(([logical, physical]) => ({ logical, physical })));

type SchemasInput = Readonly<Record<string, string>> | readonly (string | SchemaBinding)[];

const schemas = oneForm<SchemaBinding[], SchemasInput>(
  (value) => (Array.isArray(value) ? z.array(binding) : schemaMap),
  [{}, []],
).superRefine((bindings, context) => {
  if (bindings.length === 0) context.addIssue("must name at least one schema");
  for (const side of ["logical", "physical"] as const) {
    for (const name of duplicates(bindings.map((each) => each[side]))) {
      context.addIssue(`names the ${side} schema ${JSON.stringify(name)} more than once`);
    }
  }
});

const later = (what: string) => z.undefined(`${what} is not supported yet`).optional();

export const tenantRecord = keyed({
  id,
  hosts: z.array(host).nullish(),
  database: z.string().nullish(),
  api: identifier.nullish(),
  mode: identifier.nullish(),
  schemas,
  sharedSchemas: z.array(schemaName).nullish(),
  roles: keyed({
    anonymous: roleName.nullish(),
    authenticated: roleName.nullish(),
    others: z.array(roleName).nullish(),
  }).nullish(),
  settings: z.record(identifier, z.union([text, z.boolean()], "must be text or a boolean")).nullish(),
  jwt: jwtRecord.nullish(),
  session: sessionRecord.nullish(),
  realtime: later("realtime"),
}).superRefine(({ schemas: bindings, sharedSchemas: shared, jwt, session }, context) => {
  if (jwt != null && session != null) {
    context.addIssue({ code: "custom", path: ["session"], message: "cannot stand beside jwt" });
  }
  const complain = (message: string): void =>
    context.addIssue({ code: "custom", path: ["sharedSchemas"], message });
  for (const name of duplicates(shared ?? [])) complain(`names ${JSON.stringify(name)} more than once`);
  for (const { physical } of bindings) {
    if (shared?.includes(physical)) complain(`${JSON.stringify(physical)} is served already`);
  }
});

/** The tenant that a record describes; throws `ConfigError` with every fault, its path beginning in the record. */
export function parseTenant(value: unknown, defaults: TenantDefaults): Tenant {
  const result = tenantRecord.safeParse(value);
  if (!result.success) throw new ConfigError(faultsOf(result.error.issues));
  return completeTenant(result.data, defaults);
}

/** A record with its defaults filled in; throws `ConfigError` where its database is not a configured one. */
export function completeTenant(record: TenantRecord, defaults: TenantDefaults): Tenant {
  const database = record.database ?? defaults.database;
  if (database === null || !defaults.databases.includes(database)) {
    throw new ConfigError([{ path: "database", message: databaseFault(database, defaults.databases) }]);
  }
  const served = new Set(record.schemas.map(({ physical }) => physical));
  return {
    id: record.id,
    hosts: [...new Set(record.hosts ?? [])],
    database,
    api: record.api ?? null,
    mode: record.mode ?? null,
    schemas: record.schemas,
    sharedSchemas: record.sharedSchemas ?? defaultShared.filter((name) => !served.has(name)),
    roles: {
      anonymous: record.roles?.anonymous ?? null,
      authenticated: record.roles?.authenticated ?? null,
      others: record.roles?.others ?? [],
    },
    settings: record.settings ?? {},
    jwt: record.jwt == null ? null : { ...record.jwt, audience: record.jwt.audience ?? [record.id] },
    session: record.session == null ? null : sessionRules(record.session, record.schemas),
  };
}

/** Why `database` is none of `known`; null stands for a default that there is not. */
export function databaseFault(database: string | null, known: readonly string[]): string {
  const names = `configured: ${known.join(", ") || "none"}`;
  return database === null
    ? `must be named, as none is called main (${names})`
    : `${JSON.stringify(database)} is not a configured database (${names})`;
}
