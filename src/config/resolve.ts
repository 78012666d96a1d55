/** Turns the written config into the one in use, with defaults that depend on other keys. */
import { completeTenant } from "../tenants/tenant.ts";
import type { Config, DatabaseConfig, RealtimeConfig, TenantsConfig } from "./config.ts";
import { tenantDefaults } from "./cross-checks.ts";
import { moduleUrl } from "./module-file.ts";
import { type ConfigRecord, realtimeDefaults } from "./schema.ts";

export interface Surroundings {
  readonly file: string | null;
  readonly envFiles: readonly string[];
  /** Base of relative paths: the file's directory. */
  readonly directory: string;
  readonly production: boolean;
  readonly availableMemoryMb: number;
}

const hourMs = 3_600_000;

const renewAfterOf = ({ age, ...counts }: ConfigRecord["databases"][string]["renewAfter"]) => ({
  ...counts,
  ageMs: age,
});

/** The config for a record in which `crossFaults` found no fault. */
export function resolveConfig(record: ConfigRecord, around: Surroundings): Config {
  const { listen, admin, cells, builds, limits } = record;
  const graphiql = record.graphiql ?? !around.production;
  const { idleTtl, drainTimeout, stallTimeout, quarantineShare, quarantineWindow, ...figures } = cells;
  return {
    file: around.file,
    envFiles: around.envFiles,
    production: around.production,
    listen,
    admin: { ...admin, token: admin.token ?? null },
    databases: Object.fromEntries(
      Object.entries(record.databases).map(([name, database]): [string, DatabaseConfig] => [
        name,
        {
          ...database,
          listenUrl: database.listenUrl ?? database.url,
          poolReserve: database.poolReserve ?? database.poolSize,
          renewAfter: renewAfterOf(database.renewAfter),
        },
      ]),
    ),
    tenants: resolveTenants(record, around),
    routing: record.routing,
    preset: record.preset === undefined ? null : moduleUrl(record.preset, around.directory),
    requestHeaders: record.requestHeaders,
    pooling: record.pooling,
    guard: record.guard,
    guardPollMs: record.guardPoll,
    roleSafety: record.roleSafety.mode,
    acceptedSql: record.roleSafety.accept,
    cells: {
      ...figures,
      max: figures.max ?? null,
      instances: figures.instances ?? null,
      memoryMb: figures.memoryMb ?? around.availableMemoryMb,
      quarantine: { share: quarantineShare, windowMs: quarantineWindow },
      idleTtlMs: idleTtl ?? (around.production ? 6 * hourMs : hourMs / 12),
      drainTimeoutMs: drainTimeout,
      stallTimeoutMs: stallTimeout,
    },
    builds: { concurrency: builds.concurrency, queue: builds.queue, timeoutMs: builds.timeout },
    limits: {
      bodyBytes: limits.bodyBytes,
      requestTimeoutMs: limits.requestTimeout,
      resultBytes: limits.resultBytes,
      statementTimeoutMs: limits.statementTimeout ?? limits.requestTimeout,
      tenantInFlight: limits.tenantInFlight,
      connections: limits.connections,
      addressConnections: limits.addressConnections,
      fields: limits.fields,
      depth: limits.depth,
      variables: limits.variables,
      variablesDepth: limits.variablesDepth,
    },
    realtime: resolveRealtime(record.realtime, limits.connections),
    graphiql,
    introspection: record.introspection ?? graphiql,
  };
}

/** `connections`: the most of the public listener. */
export function resolveRealtime(realtime: true, connections: number): RealtimeConfig;
export function resolveRealtime(
  realtime: ConfigRecord["realtime"],
  connections: number,
): RealtimeConfig | null;
export function resolveRealtime(realtime: ConfigRecord["realtime"], all: number): RealtimeConfig | null {
  if (realtime === false) return null;
  const figures = realtime === true ? realtimeDefaults : realtime;
  const { poll, retention, minInterval, initTimeout, connections, ping, origins, ...rest } = figures;
  return {
    ...rest,
    pollMs: poll,
    retentionMs: retention,
    minIntervalMs: minInterval,
    // The other half stays for requests.
    connections: connections ?? Math.ceil(all / 2),
    pingMs: ping,
    initTimeoutMs: initTimeout,
    origins: origins.map((each) => new URL(each).origin),
  };
}

function resolveTenants({ databases, tenants }: ConfigRecord, { directory }: Surroundings): TenantsConfig {
  const defaults = tenantDefaults(Object.keys(databases));
  if (Array.isArray(tenants)) {
    return { kind: "list", list: tenants.map((tenant) => completeTenant(tenant, defaults)) };
  }
  if (tenants !== undefined && "module" in tenants) {
    return { kind: "module", url: moduleUrl(tenants.module, directory) };
  }
  const database = tenants?.table.database ?? defaults.database;
  return database === null ? { kind: "demo" } : { kind: "table", database };
}
