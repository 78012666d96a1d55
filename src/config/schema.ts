/**
 * The schema of a config file. Output is in normalised units; defaults that depend on other keys are added
 * later.
 */
import { isIP } from "node:net";
import { z } from "zod";
import { parseConnectionUrl } from "../shared/connect/url.ts";
import { messageOf } from "../shared/kernel/errors.ts";
import { parseRoutingRule, type RoutingRule } from "../tenants/router.ts";
import { type TenantInput, type TenantRecord, tenantRecord } from "../tenants/tenant.ts";
import { duplicates, keyed, oneForm } from "../validation/one-of.ts";
import { byteCount, durationMs, wholeNumber } from "../validation/units.ts";
import { requestHeaderFault } from "./request-headers.ts";
import { isProxyEntry, type TrustProxy } from "./trust-proxy.ts";

const loopback = "127.0.0.1";

/** 0, or what `schema` accepts. */
const zeroOr = <Schema extends z.ZodType<number>>(schema: Schema) =>
  z.unknown().transform((value, context): number => {
    if (value === 0) return 0;
    const { data, error } = schema.safeParse(value);
    if (data !== undefined) return data;
    for (const { message } of error?.issues ?? []) context.addIssue(`${message}, or 0 for no limit`);
    return z.NEVER;
  });

const port = wholeNumber(0, 65_535);

/** Accepts an IPv6 address with the brackets used in URLs. */
const host = z.string().transform((value, context): string => {
  const bare = /^\[(.*)\]$/.exec(value)?.[1] ?? value;
  if (isIP(bare) !== 0 || /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(bare)) return bare;
  context.addIssue("must be a host name or an IP address");
  return z.NEVER;
});

/** Secret: no message may repeat it. Files that it names are opened only when it is first used. */
const databaseUrl = z.string().transform((value, context): string => {
  try {
    const target = parseConnectionUrl(value, {});
    if (target.hosts.every((place) => URL.canParse(target.urlOf(place)))) return value;
    context.addIssue(unreadableUrl);
  } catch (error) {
    context.addIssue(value.startsWith("postgres") ? messageOf(error) : unreadableUrl);
  }
  return z.NEVER;
});

const unreadableUrl =
  "must be a postgres:// or postgresql:// URL (a user or password with special characters percent-encoded)";

const databaseName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, "must be 1 to 63 letters, digits, hyphens or underscores");

/** Sent in a header, where blanks and non-ASCII characters would not survive. */
const token = z.string().regex(/^[\x21-\x7e]+$/, "must consist of visible ASCII characters without spaces");

/** A path or a file URL. */
export const modulePath = z
  .string()
  .regex(
    /^(?!file:)[^\0]+$|^file:\/\/\/(?!.*%(?:2f|00))[^\0]+$/i,
    "must be the path or file URL of a module",
  );

const routingRule = z.string().transform((value, context): RoutingRule => {
  const rule = parseRoutingRule(value);
  if (rule !== undefined) return rule;
  context.addIssue('must be "host", "header:NAME" or a path prefix such as "path:/t/:tenant"');
  return z.NEVER;
});

const proxyEntry = z
  .string()
  .refine(
    isProxyEntry,
    'must be an address, a network such as "10.0.0.0/8", "loopback", "linklocal" or "uniquelocal"',
  );

type TrustInput = boolean | number | string | readonly string[];

/** A single address may be written without a list. */
const trustProxy = oneForm<TrustProxy, TrustInput>(
  (value) => {
    if (typeof value === "boolean") return z.boolean();
    if (typeof value === "number") return wholeNumber(1, 100);
    if (typeof value === "string") return proxyEntry.transform((entry) => [entry]);
    return z.array(
      proxyEntry,
      "must be true, false, a number of proxies or a list of addresses and networks",
    );
  },
  [true, 1, "", []],
);

const tenantTable = keyed({ table: keyed({ database: z.string().optional() }) });
const tenantModule = keyed({ module: modulePath });
const tenantList = z.array(tenantRecord);

type TenantsOutput = TenantRecord[] | z.output<typeof tenantTable> | z.output<typeof tenantModule>;
type TenantsInput = readonly TenantInput[] | z.input<typeof tenantTable> | z.input<typeof tenantModule>;

const tenants = oneForm<TenantsOutput, TenantsInput>(
  (value) => {
    if (typeof value !== "object" || value === null) {
      return z.never('must be a list of tenants, { table: { database } } or { module: "./tenants.ts" }');
    }
    if (Array.isArray(value)) return tenantList;
    return "module" in value ? tenantModule : tenantTable;
  },
  [[], { module: "" }, {}],
);

interface RoleSafety {
  mode: "refuse" | "warn" | "off";
  accept: string[];
}

const safetyMode = z.enum(["refuse", "warn", "off"], 'must be "refuse", "warn" or "off"');
const safetyRecord = keyed({
  mode: safetyMode.default("warn"),
  accept: z
    .array(z.string().regex(/^[^.]+\../s, 'must be a schema and a name, such as "app.audit"'))
    .default([]),
});
const roleSafety = oneForm<RoleSafety, RoleSafety["mode"] | z.input<typeof safetyRecord>>(
  (value) =>
    typeof value === "object" && value !== null
      ? safetyRecord
      : safetyMode.transform((mode): RoleSafety => ({ mode, accept: [] })),
  ["", {}],
);

/** Each cell receives these with every request, so the number is limited. */
const maxRequestHeaders = 32;

const requestHeaders = z
  .array(
    z.string().superRefine((entry, context) => {
      const fault = requestHeaderFault(entry);
      if (fault !== null) context.addIssue(fault);
    }),
  )
  .max(maxRequestHeaders, `must name at most ${maxRequestHeaders}`)
  .superRefine((entries, context) => {
    for (const entry of duplicates(entries)) {
      context.addIssue(`names ${JSON.stringify(entry)} more than once`);
    }
  });

const realtimeRecord = keyed({
  poll: durationMs(20).default(100),
  retention: durationMs(1_000).default(60_000),
  minInterval: durationMs(0).default(250),
  connections: wholeNumber(1, 1_000_000).optional(),
  tenantConnections: wholeNumber(1, 1_000_000).default(500),
  connectionSubscriptions: wholeNumber(1, 10_000).default(50),
  tenantSubscriptions: wholeNumber(1, 100_000).default(1_000),
  initTimeout: durationMs(100).default(3_000),
  bufferBytes: byteCount().default(2 ** 20),
  origins: z
    .array(z.url({ protocol: /^https?$/, error: 'must be an origin, such as "https://app.example"' }))
    .default([]),
  ping: durationMs(100).default(20_000),
});

export const realtimeDefaults = realtimeRecord.parse({});

/** Its figures, or `true` for the defaults. */
const realtime = oneForm<z.output<typeof realtimeRecord> | boolean, boolean | z.input<typeof realtimeRecord>>(
  (value) =>
    typeof value === "object" && value !== null
      ? realtimeRecord
      : z.boolean("must be true, false or an object"),
  [false, {}],
);

const shareRange = "must be a number from 0.05 to 1";

export const configSchema = keyed({
  listen: keyed({
    host: host.default(loopback),
    port: port.default(5678),
    trustProxy: trustProxy.default(false),
  }).prefault({}),
  admin: keyed({ host: host.default(loopback), port: port.default(5679), token: token.optional() }).prefault(
    {},
  ),
  databases: z
    .record(
      databaseName,
      keyed({
        url: databaseUrl,
        listenUrl: databaseUrl.optional(),
        poolSize: wholeNumber(1, 1_000).default(4),
        poolReserve: wholeNumber(0, 1_000).optional(),
        // 0 is no limit; below these, connections would be renewed all the time.
        renewAfter: keyed({
          tenants: zeroOr(wholeNumber(10, 1_000_000)).default(500),
          age: zeroOr(durationMs(60_000)).default(3_600_000),
          memoryMb: zeroOr(wholeNumber(16, 65_536)).default(64),
        }).prefault({}),
        install: z.boolean().default(true),
      }),
    )
    .default({}),
  tenants: tenants.optional(),
  routing: z.array(routingRule).min(1, "must have at least one rule").prefault(["host", "header:x-tenant"]),
  preset: modulePath.optional(),
  requestHeaders: requestHeaders.default([]),
  pooling: z.boolean().default(false),
  guard: z.enum(["writes", "all", "off"], 'must be "writes", "all" or "off"').default("writes"),
  guardPoll: durationMs(100).default(10_000),
  roleSafety: roleSafety.prefault("warn"),
  cells: keyed({
    // Below 32 MB not even the modules fit.
    heapMb: wholeNumber(32, 65_536).default(256),
    hardLimitFactor: z.number().min(1).max(16).default(2),
    // V8's longest string is 512 MB; while one is derived from another, both exist.
    headroomMb: wholeNumber(0, 65_536).default(1_024),
    youngMb: wholeNumber(1, 1_024).default(16),
    max: wholeNumber(1, 1_000).optional(),
    memoryMb: wholeNumber(1).optional(),
    instances: wholeNumber(1).optional(),
    instanceHeapMb: wholeNumber(1, 65_536).default(64),
    spare: wholeNumber(0, 100).default(1),
    replicas: wholeNumber(1, 100).default(1),
    // Below a twentieth, a tenant that only builds its first plans would be over the limit.
    quarantineShare: z.number(shareRange).min(0.05, shareRange).max(1, shareRange).default(0.5),
    quarantineWindow: durationMs(1_000).default(10_000),
    idleTtl: durationMs(1).optional(),
    drainTimeout: durationMs(0).default(30_000),
    stallTimeout: durationMs(100).default(15_000),
  }).prefault({}),
  builds: keyed({
    concurrency: wholeNumber(1, 100).default(1),
    queue: wholeNumber(0).default(100),
    timeout: durationMs(1).default(60_000),
  }).prefault({}),
  limits: keyed({
    bodyBytes: byteCount().default(2 ** 20),
    requestTimeout: durationMs(1).default(30_000),
    resultBytes: byteCount().default(32 * 2 ** 20),
    statementTimeout: durationMs(1).optional(),
    tenantInFlight: wholeNumber(1, 4_096).default(256),
    connections: wholeNumber(1, 1_000_000).default(4_000),
    addressConnections: wholeNumber(1, 1_000_000).default(256),
    fields: wholeNumber(1, 1_000_000).default(1_000),
    depth: wholeNumber(1, 10_000).default(16),
    variables: wholeNumber(1, 10_000_000).default(20_000),
    variablesDepth: wholeNumber(1, 10_000).default(64),
  }).prefault({}),
  realtime: realtime.default(false),
  graphiql: z.boolean().optional(),
  introspection: z.boolean().optional(),
});

/** The config as people write it, in a file or for `defineConfig`. */
export type ConfigInput = z.input<typeof configSchema>;
/** The config after validation, in normalised units. */
export type ConfigRecord = z.output<typeof configSchema>;
