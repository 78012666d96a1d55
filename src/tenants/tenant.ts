/** A tenant: its routes, its database, its schemas in order, its roles and build settings. */
import { z } from "zod";
import { parseTenantId, type TenantId } from "../shared/kernel/ids.ts";
import { physicalNames, type SchemaBinding } from "../shared/model/blueprint-spec.ts";
import { ConfigError, faultsOf } from "../validation/config-error.ts";
import { identifier, roleName, schemaName, text } from "../validation/identifiers.ts";
import { duplicates, keyed, oneForm } from "../validation/one-of.ts";
import { normaliseHost } from "./host-name.ts";
import { type JwtRules, jwtRecord } from "./jwt-config.ts";
import { type SessionRules, sessionRecord, sessionRules } from "./session-config.ts";

export interface Tenant {
  readonly id: TenantId;
  /** In the form that `normaliseHost` returns. */
  readonly hosts: readonly string[];
  readonly database: string;
  readonly api: string | null;
  readonly mode: string | null;
  /** At least one, in search path order. */
  readonly schemas: readonly SchemaBinding[];
  /** Follow the served schemas in the search path; not served themselves. */
  readonly sharedSchemas: readonly string[];
  readonly roles: TenantRoles;
  /** Flags that select a variant of a build. */
  readonly settings: Readonly<Record<string, string | boolean>>;
  /** Null if the tenant accepts no JWTs. */
  readonly jwt: JwtRules | null;
  /** Null if the tenant has no session function; never set together with `jwt`. */
  readonly session: SessionRules | null;
  /** Whether it has subscriptions, where the host does. */
  readonly realtime: boolean;
}

export interface TenantRoles {
  readonly anonymous: string | null;
  readonly authenticated: string | null;
  /** Further roles that a token may name. */
  readonly others: readonly string[];
}

/** Every role that a request of the tenant may use. */
export function listedRoles({ anonymous, authenticated, others }: TenantRoles): string[] {
  return [...new Set([anonymous, authenticated, ...others])].filter((role) => role !== null);
}

/** Defaults for what a record leaves out. */
export interface TenantDefaults {
  /** Used by records that name no database; null if there is no default. */
  readonly database: string | null;
  /** The names of the configured databases. */
  readonly databases: readonly string[];
}

/** A tenant's record as people write it: see `Tenant` in the configuration's documentation. */
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
/** A build has PostgreSQL's own schemas beside the tenant's. */
const logicalName = identifier.refine(
  (value) => value !== "pg_catalog" && value !== "information_schema",
  "is reserved by PostgreSQL and cannot be a logical schema name",
);

const bound = keyed({ logical: logicalName, physical: schemaName });
const binding = oneForm<SchemaBinding, string | SchemaBinding>(
  (value) => (typeof value === "string" ? namedAlike : bound),
  ["", {}],
);

/** JavaScript puts numeric keys first, whatever order they were written in. */
const logicalKey = logicalName.refine(
  (value) => !/^\d+$/.test(value),
  "numeric keys lose their position in an object: use the array form",
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
  settings: z.record(identifier, z.union([text, z.boolean()], "must be a string or a boolean")).nullish(),
  jwt: jwtRecord.nullish(),
  session: sessionRecord.nullish(),
  realtime: z.boolean().nullish(),
}).superRefine(({ schemas: bindings, sharedSchemas: shared, jwt, session }, context) => {
  if (jwt != null && session != null) {
    context.addIssue({ code: "custom", path: ["session"], message: "cannot be combined with jwt" });
  }
  const complain = (message: string): void =>
    context.addIssue({ code: "custom", path: ["sharedSchemas"], message });
  for (const name of duplicates(shared ?? [])) complain(`names ${JSON.stringify(name)} more than once`);
  for (const { physical } of bindings) {
    if (shared?.includes(physical)) complain(`${JSON.stringify(physical)} is also in schemas`);
  }
});

/** The tenant described by a record; throws `ConfigError` with every fault, paths relative to the record. */
export function parseTenant(value: unknown, defaults: TenantDefaults): Tenant {
  const result = tenantRecord.safeParse(value);
  if (!result.success) throw new ConfigError(faultsOf(result.error.issues));
  return completeTenant(result.data, defaults);
}

/** Fills in the defaults of a record; throws `ConfigError` if its database is not configured. */
export function completeTenant(record: TenantRecord, defaults: TenantDefaults): Tenant {
  const database = record.database ?? defaults.database;
  if (database === null || !defaults.databases.includes(database)) {
    throw new ConfigError([{ path: "database", message: databaseFault(database, defaults.databases) }]);
  }
  const served = new Set(physicalNames(record.schemas));
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
    realtime: record.realtime ?? true,
  };
}

/** Why `database` is not among `known`; null stands for a missing default. */
export function databaseFault(database: string | null, known: readonly string[]): string {
  const names = `configured: ${known.join(", ") || "none"}`;
  return database === null
    ? `must be set, because no database is named main (${names})`
    : `${JSON.stringify(database)} is not a configured database (${names})`;
}
