/**
 * Every place where Rowhouse reaches into another package, in one list. `src/shared/kernel/patch-policy.ts` decides what becomes of each;
 * docs/upstream.md has the change to the dependency that would make it unnecessary.
 *
 * Not in the list: documented extension points, used as documented (hooks and middleware of plugins, options, subclasses that override
 * public methods), and whatever has a type and a page in a dependency's manual.
 */
import type { VersionOf } from "../../src/shared/kernel/installed.ts";
import { type Patch, type PatchReport, reportOf } from "../../src/shared/kernel/patch-policy.ts";

/** Read line by line for how they turn a plan into SQL, and how a step gets at the results of others. */
const sqlOfSteps = { "@dataplan/pg": ["1.1.2"], grafast: ["1.1.3"], "pg-sql2": ["5.0.1"] };

export const patches = [
  // Safety.
  {
    name: "scoped-introspection",
    member: "the text of makeIntrospectionQuery(), replaced when graphile-build-pg sends it",
    versions: { "pg-introspection": ["1.0.0", "1.0.1"] },
    purpose: "safety",
    checked: "content",
    gain: "a build sees its tenant's schemas and no others; in a database of 300 tenants with 20 tables 0.6 s and 11 MB instead of 11.9 s and 508 MB",
    otherwise: "a query with another sha256 is not sent, and the build fails with BUILD_FAILED",
    files: ["workers/instance/introspection.ts", "workers/instance/introspection-sql.ts"],
  },
  {
    name: "schema-names",
    member: "helpers.pgBasics.identifier of a build's gather phase (PgBasicsPlugin), wrapped",
    versions: { "graphile-build-pg": ["5.1.4"] },
    purpose: "safety",
    checked: "versions",
    gain: "the SQL of a dedicated instance names the tenant's own schemas, whatever its blueprint calls them",
    otherwise: "SQL could name the schemas of another tenant, so nothing is served",
    files: ["workers/instance/served-plugins.ts"],
  },
  {
    name: "login-tokens",
    member: "PgJWTPlugin, found by its name in a preset and replaced in its place",
    versions: { "graphile-build-pg": ["5.1.4"] },
    purpose: "safety",
    checked: "versions",
    gain: "each tenant's tokens are signed with that tenant's secret, not with one that is built into the schema",
    otherwise: "tokens could be signed with one secret for all tenants, so nothing is served",
    files: ["workers/instance/login-tokens-plugin.ts", "workers/instance/preset.ts"],
  },
  {
    name: "request-limits",
    member: "getExecutionConfig and validationRules of grafserv's setPreset event, wrapped and extended",
    versions: { grafserv: ["1.0.2"] },
    purpose: "safety",
    checked: "versions",
    gain: "documents are parsed within limits and cached by weight; grafserv would parse a megabyte of tokens into 250 MB of heap",
    otherwise: "one client's document could fill the heap that tenants share, so nothing is served",
    files: ["workers/instance/rowhouse-plugin.ts", "workers/request/documents.ts"],
  },
  {
    name: "pipelined-transactions",
    member:
      "a pg.Query with its own submit and handle… methods; pg/lib/utils prepareValue; pg-protocol's serialize",
    versions: { pg: ["8.23.1"], "pg-protocol": ["1.16.1"] },
    purpose: "safety",
    checked: "versions",
    gain: "a transaction is one write with one Sync, so no statement runs without the role and settings before it; 10.3 thousand transactions a second instead of 3.2 with a round trip for each statement",
    otherwise: "a statement could run without its role and search path, so nothing is served",
    files: ["src/shared/postgres/pipeline.ts"],
  },
  {
    name: "connection-state",
    member:
      "Client#connection with its events and stream, processID, secretKey, getTransactionStatus; the clients and errors of pg-pool",
    versions: { pg: ["8.23.1"], "pg-pool": ["3.14.0"] },
    purpose: "safety",
    checked: "versions",
    gain: "a connection that was left in a transaction, or received too much, is never handed to the next tenant",
    otherwise: "a connection's state would not be known, so nothing is served",
    files: [
      "workers/postgres/connection.ts",
      "src/shared/connect/connector.ts",
      "src/shared/connect/session-state.ts",
      "src/postgres/greeting.ts",
      "src/shared/postgres/pooler.ts",
    ],
  },
  {
    name: "thread-end",
    member: "Piscina#threads, and listeners for the thread's error and exit ahead of Piscina's own",
    versions: { piscina: ["5.3.2"] },
    purpose: "safety",
    checked: "versions",
    gain: "a thread that dies is counted as gone before Piscina starts an unbudgeted one in its place",
    otherwise: "threads could run without a memory budget, so nothing is served",
    files: ["src/fleet/cell/thread.ts"],
  },
  {
    name: "reg-text",
    member: "castFromPg and listCastFromPg of TYPES.regclass and similar codecs, and of LIST_TYPES",
    versions: { "@dataplan/pg": ["1.1.2"] },
    purpose: "safety",
    checked: "content",
    gain: "values of regclass and similar types have the same text in a dedicated instance as in PostGraphile without a search path",
    otherwise:
      "such values would silently lose their schema, so the build fails with BUILD_FAILED if the codecs are missing",
    files: ["workers/graphile/reg-text.ts"],
  },
  {
    name: "diverted-output",
    member:
      "write of process.stdout and process.stderr, methods of console, the listeners for process 'warning'",
    versions: { node: ["24"] },
    purpose: "safety",
    checked: "content",
    gain: "what plugins and libraries print goes through the log's redaction, and a log reader that stops does not stop the host",
    otherwise:
      "the patch needs nothing but that these properties can be assigned, as in every version of Node.js",
    files: ["src/shared/kernel/divert.ts", "workers/reports.ts"],
  },

  // Speed and memory.
  {
    name: "select-texts",
    member: "PgSelectStep.prototype.execute, and execute of PgSelectInlineApplyStep",
    versions: sqlOfSteps,
    purpose: "speed",
    checked: "versions",
    gain: "14 of 97 µs of a thread's CPU for one row, 36 of 167 for nested ones",
    otherwise: "the SQL of selects is rebuilt for each request",
    files: [
      "workers/graphile/sql-cache/select.ts",
      "workers/graphile/sql-cache/select-probe.ts",
      "workers/graphile/sql-cache/replace-execute.ts",
    ],
  },
  {
    name: "change-texts",
    member: "execute of PgInsertSingleStep.prototype and PgUpdateSingleStep.prototype",
    versions: sqlOfSteps,
    purpose: "speed",
    checked: "versions",
    gain: "a mutation takes 1.13 times the thread's CPU without it (`bench patches`, three pairs, 1.06 to 1.16)",
    otherwise: "the SQL of inserts and updates is rebuilt for each request",
    files: ["workers/graphile/sql-cache/mutation.ts", "workers/graphile/sql-cache/replace-execute.ts"],
  },
  {
    name: "lone-reads",
    member: "executeWithCache and executeWithoutCache of a PgExecutor, and its $$cache",
    versions: { "@dataplan/pg": ["1.1.2"] },
    purpose: "speed",
    checked: "versions",
    gain: "4 to 12 of about 100 µs of a thread's CPU for a read",
    otherwise: "a single read is sent as a batch",
    files: ["workers/graphile/executor.ts"],
  },
  {
    name: "single-reads",
    member: "_execute of a PgExecutor",
    versions: { "@dataplan/pg": ["1.1.2"] },
    purpose: "speed",
    checked: "versions",
    gain: "one round trip for a read instead of two; with it, 1.1 to 1.3 times the throughput of PostGraphile without a host",
    otherwise:
      "a read is a transaction of several round trips, with the locks of a write, and is not repeated after a lost connection",
    files: ["workers/instance/rowhouse-plugin.ts"],
  },
  {
    name: "single-writes",
    member: "executeMutation of a PgExecutor",
    versions: { "@dataplan/pg": ["1.1.2"] },
    purpose: "speed",
    checked: "versions",
    gain: "one round trip for a mutation of one statement instead of two; without it, 1.5 times the thread's CPU (`bench patches`, 1.37 to 1.57)",
    otherwise: "a mutation's commit takes a second round trip",
    files: ["workers/instance/rowhouse-plugin.ts"],
  },
  {
    name: "plan-cache",
    member: "the cache of operation plans behind a private symbol in schema.extensions.grafast",
    versions: { grafast: ["1.1.3"] },
    purpose: "speed",
    checked: "versions",
    gain: "plans are limited by weight, to a quarter of the heap; as published, 30 operations of 300 fields fill a cell of 256 MB",
    otherwise: "plans are limited by number, so cells are replaced more often",
    files: ["workers/graphile/plan-cache.ts"],
  },
  {
    name: "middleware",
    member: "Middleware#run of graphile-config, in the middleware and grafastMiddleware of a GrafservBase",
    versions: { "graphile-config": ["1.1.1"], grafserv: ["1.0.2"] },
    purpose: "speed",
    checked: "versions",
    gain: "a request that does nothing else takes 3 µs instead of 8, garbage collection included",
    otherwise: "each request leaves garbage that survives until a full collection",
    files: ["workers/graphile/middleware.ts"],
  },
  {
    name: "planning-time",
    member: "planOperation and checkTimeout of OperationPlan.prototype",
    versions: { grafast: ["1.1.3"] },
    purpose: "speed",
    checked: "versions",
    gain: "planning is limited by the thread's CPU time, so operations are not refused because the machine is busy; the refusal has a code",
    otherwise: "planning is limited by the clock only, and its refusal has no code",
    files: ["workers/request/planning-time.ts"],
  },
  {
    name: "export-marks",
    member: "Object.defineProperties of the thread, which EXPORTABLE calls with $exporter$factory",
    versions: { "@dataplan/pg": ["1.1.2"], "graphile-build": ["5.1.1"] },
    purpose: "speed",
    checked: "versions",
    gain: "18 of 58 MB of heap of an instance of 300 tables",
    otherwise: "instances keep notes for graphile-export, and take up to 50 % more heap",
    files: ["workers/graphile/export-marks.ts"],
  },
  {
    name: "behavior-matches",
    member: "entityMatches, getPreferencesAppliedBehaviors and behaviorEntities of a build's Behavior",
    versions: { "graphile-build": ["5.1.1"] },
    purpose: "speed",
    checked: "versions",
    gain: "76 to 107 ms of a thread for a build of 20 tables instead of 147 to 202; 10 of 58 MB of an instance of 300 tables",
    otherwise: "builds take about twice as long",
    files: ["workers/graphile/behavior-cache.ts"],
  },
  {
    name: "transliteration",
    member: "transliteration in the module cache of graphile-build, a stand-in until a name needs it",
    versions: { "graphile-build": ["5.1.1"], transliteration: ["2.6.1"] },
    purpose: "speed",
    checked: "versions",
    gain: "3.2 MB of each thread's heap, and 35 ms of CPU of its start",
    otherwise: "each thread loads the dictionary",
    files: ["workers/graphile/transliteration.ts"],
  },
  {
    name: "abort-reason",
    member: "AbortController.prototype.abort of the thread, which Grafast calls after each operation",
    versions: { node: ["24"], grafast: ["1.1.3"] },
    purpose: "speed",
    checked: "versions",
    gain: "8 of 16 µs of a thread's CPU for { __typename }",
    otherwise: "an error with a stack is created after each operation",
    files: ["workers/graphile/abort-reason.ts"],
  },
  {
    name: "collections",
    member: "gc by --expose-gc set at run time; --heap-growing-percent and --max-semi-space-size",
    versions: { node: ["24"] },
    purpose: "speed",
    checked: "content",
    gain: "a host of one blueprint takes 160 MB at rest instead of 202",
    otherwise: "V8 decides when memory is returned",
    files: ["src/shared/memory/gc.ts", "src/app/host.ts", "bin/rowhouse.js"],
  },
] as const satisfies readonly Patch[];

export type PatchName = (typeof patches)[number]["name"];

/** What becomes of each patch where the packages have these versions; asks for each package once. */
export function patchReports(versionOf: VersionOf): PatchReport[] {
  const versions = new Map<string, string | null>();
  const known: VersionOf = (name) => {
    const before = versions.get(name);
    if (before !== undefined) return before;
    const version = versionOf(name);
    versions.set(name, version);
    return version;
  };
  return patches.map((patch) => reportOf(patch, known));
}
