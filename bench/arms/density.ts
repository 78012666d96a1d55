/** One process that builds instances for the given tenants, stock or Rowhouse's, and reports their memory and build time. */

import pg from "pg";
import { makePgService } from "postgraphile/adaptors/pg";
import { execute, hookArgs } from "postgraphile/grafast";
import { GrafservBase } from "postgraphile/grafserv";
import { makeSchema } from "postgraphile/graphile-build";
import { parse, validate } from "postgraphile/graphql";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { cellId, tenantId } from "../../src/shared/kernel/ids.ts";
import { installedVersion } from "../../src/shared/kernel/installed.ts";
import { statesOf } from "../../src/shared/kernel/patch-policy.ts";
import { patchReports } from "../../workers/graphile/patches.ts";
import { Instances } from "../../workers/instance/instances.ts";
import { RequestScope } from "../../workers/request/request-scope.ts";
import { specOf } from "../blueprint.ts";
import type { BenchTenant } from "../database.ts";
import { armInput, reply } from "./input.ts";

const { arm, url, tenants, query } = await armInput();
const mb = 1024 * 1024;

function heapMb(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage().heapUsed / mb;
}

const kept: unknown[] = [];

async function buildStock(tenant: BenchTenant): Promise<string> {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  const { schema, resolvedPreset } = await makeSchema({
    extends: [PostGraphileAmberPreset],
    pgServices: [
      makePgService({
        pool,
        schemas: [tenant.schemas.app],
        pgSettings: () => ({ role: tenant.roles.anonymous }),
      }),
    ],
  });
  kept.push(schema, resolvedPreset, new GrafservBase({ schema, preset: resolvedPreset }));
  const document = parse(query);
  const [fault] = validate(schema, document);
  if (fault !== undefined) throw fault;
  const args = { schema, document, contextValue: {}, resolvedPreset, requestContext: {} };
  const result = await execute(await hookArgs(args));
  await pool.end();
  return JSON.stringify(result);
}

async function buildOurs(
  tenant: BenchTenant,
  kind: "pooled" | "dedicated",
  ordinal: number,
): Promise<string> {
  const id = tenantId(tenant.id);
  const instances = new Instances(
    {
      cell: cellId(1),
      applicationName: "rowhouse:bench",
      databases: { main: { url, poolSize: 1, poolReserve: 0 } },
      preset: null,
      requestHeaders: [],
      graphiql: false,
      production: true,
      resultBytes: 32 * mb,
      operations: { fields: 1_000, depth: 16, variables: 20_000, variablesDepth: 64, introspection: true },
      statementTimeoutMs: 30_000,
      patches: statesOf(patchReports(installedVersion)),
      ledger: new SharedArrayBuffer(8),
    },
    () => undefined,
  );
  await instances.build(ordinal, {
    ...specOf(kind, tenant.schemas, 0),
    shape: kind === "pooled" ? "core" : "full",
  });
  kept.push(instances);
  const binding = {
    tenant: id,
    searchPath: [tenant.schemas.app, "public"],
    statementTag: tenant.id,
    roles: [tenant.roles.anonymous],
    prepares: false,
    notifies: false,
    guard: null,
  };
  const task = {
    kind: "request",
    slot: 0,
    instance: ordinal,
    binding,
    settings: { role: tenant.roles.anonymous },
    signing: null,
    method: "POST",
    path: "/graphql",
    basePath: "",
    query: "",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify({ query }),
  } as const;
  const scope = new RequestScope({ ...task, ledger: new Int8Array(8) });
  const served = await instances.get(ordinal)?.serve(task, scope);
  return served?.answer.kind === "text" ? served.answer.body : "";
}

const before = heapMb();
const startedMs = performance.now();
let answer = "";
let buildMs = 0;
for (const [index, tenant] of tenants.entries()) {
  const eachMs = performance.now();
  answer =
    arm === "stock"
      ? await buildStock(tenant)
      : await buildOurs(tenant, arm === "pooled" ? "pooled" : "dedicated", index);
  // The first build compiles the modules' code; it counts only if it is the only one.
  if (index > 0 || tenants.length === 1) buildMs += performance.now() - eachMs;
}
const builds = Math.max(1, tenants.length - 1);
await reply({
  heapMb: (heapMb() - before) / tenants.length,
  buildMs: buildMs / builds,
  totalMs: performance.now() - startedMs,
  answer,
});
process.exit(0);
