/** `rowhouse migrate`: applies SQL to many tenants, one transaction each. */
import { readFile } from "node:fs/promises";
import { type Migrated, type MigrationRequest, migrateTenant } from "../control/tenant-migration.ts";
import { parseDurationMs } from "../shared/kernel/duration.ts";
import { HostError, toHostError } from "../shared/kernel/errors.ts";
import { parseShapeHash, type ShapeHash } from "../shared/kernel/ids.ts";
import type { Tenant } from "../tenants/tenant.ts";
import { type Command, UsageError } from "./command.ts";
import { openConfigured } from "./open-tenants.ts";
import { commandConfig, configOption, numberOption, textOption } from "./options.ts";
import { inParallel } from "./parallel.ts";
import { startProgress } from "./progress.ts";
import { table } from "./table.ts";
import { type Choice, chooseTenants } from "./tenant-selection.ts";

type Args = Readonly<Record<string, unknown>>;

export const migrateCommand: Command = {
  name: "migrate",
  description: "Apply SQL to tenants, one transaction each, with writes to the tenant blocked",
  args: {
    sql: { type: "string", description: "the file with the SQL", valueHint: "FILE", required: true },
    tenant: { type: "string", description: "a tenant (repeatable)", valueHint: "T" },
    all: { type: "boolean", description: "every tenant" },
    like: { type: "string", description: "every tenant that has the shape of T", valueHint: "T" },
    expect: { type: "string", description: "only if the tenant has this shape", valueHint: "HASH" },
    parallel: { type: "string", description: "how many tenants at once (default 1)", valueHint: "N" },
    "lock-timeout": {
      type: "string",
      description: "how long to wait for a lock (default 10s)",
      valueHint: "TIME",
    },
    again: { type: "boolean", description: "apply even if this SQL has been applied before" },
    ...configOption,
  },
  repeatable: ["tenant"],
  async run(args) {
    const choice = choiceOf(args);
    const again = args["again"] === true;
    const parallel = numberOption(args, "parallel", 1, 64) ?? 1;
    const limits = limitsOf(args);
    const sql = await readSql(textOption(args, "sql") ?? "");
    const { databases, source, close } = await openConfigured(await commandConfig(args), "migrate", parallel);
    try {
      const { tenants, shape } = await chooseTenants(choice, { databases, source, parallel, sql, again });
      const expect = limits.expect ?? shape;
      const request = { ...limits, sql, once: !again, ...(expect === undefined ? {} : { expect }) };
      const migrate = (tenant: Tenant): Promise<Migrated> =>
        migrateTenant(databases.get(tenant.database).migrations, tenant, request);
      return report(await migrateAll(tenants, parallel, migrate));
    } finally {
      await close();
    }
  },
};

/** The tenants named by the options; throws a UsageError unless exactly one way of naming them is used. */
export function choiceOf(args: Args): Choice {
  const tenants = Array.isArray(args["tenant"])
    ? args["tenant"].filter((each: unknown) => typeof each === "string")
    : [];
  const like = textOption(args, "like");
  const all = args["all"] === true;
  if ([tenants.length > 0, like !== undefined, all].filter(Boolean).length !== 1) {
    throw new UsageError("name the tenants by exactly one of --tenant, --all and --like");
  }
  if (like !== undefined) return { kind: "like", id: like };
  return all ? { kind: "all" } : { kind: "named", ids: [...new Set(tenants)] };
}

function limitsOf(args: Args): Pick<MigrationRequest, "expect" | "lockTimeoutMs"> {
  const expected = textOption(args, "expect");
  const expect = expected === undefined ? undefined : parseShapeHash(expected);
  if (expected !== undefined && expect === undefined) {
    throw new UsageError('--expect must be a shape hash, as "rowhouse shape" prints it');
  }
  const timeout = textOption(args, "lock-timeout");
  const lockTimeoutMs = timeout === undefined ? undefined : parseDurationMs(timeout);
  // PostgreSQL takes 0 as no timeout.
  if (timeout !== undefined && (lockTimeoutMs === undefined || !(lockTimeoutMs >= 1))) {
    throw new UsageError('--lock-timeout must be a duration such as "30s"');
  }
  return {
    ...(expect === undefined ? {} : { expect }),
    ...(lockTimeoutMs === undefined ? {} : { lockTimeoutMs: Math.ceil(lockTimeoutMs) }),
  };
}

async function readSql(file: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch {
    throw new HostError("CONFIG_INVALID", `--sql: the file ${file} cannot be read`);
  }
  try {
    // The decoder removes a byte order mark.
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new HostError("CONFIG_INVALID", `--sql: the file ${file} is not UTF-8`);
  }
}

interface Result {
  readonly tenant: Tenant;
  readonly ms: number;
  readonly outcome: Migrated | HostError;
}

async function migrateAll(
  tenants: readonly Tenant[],
  parallel: number,
  migrate: (tenant: Tenant) => Promise<Migrated>,
): Promise<readonly Result[]> {
  const progress = startProgress("migrating", tenants.length);
  try {
    return await inParallel(tenants, parallel, async (tenant) => {
      const startedMs = performance.now();
      const outcome = await migrate(tenant).catch(toHostError);
      progress.step();
      return { tenant, ms: Math.round(performance.now() - startedMs), outcome };
    });
  } finally {
    progress.stop();
  }
}

/** Prints the table and the errors; returns the exit code. */
function report(results: readonly Result[]): number {
  if (results.length === 0) {
    console.log("no tenant needs this migration");
    return 0;
  }
  console.log(table([["tenant", "result", "ms", "shape"], ...results.map(rowOf)]));
  const failed = results.filter(({ outcome }) => outcome instanceof HostError);
  for (const { tenant, outcome } of failed) {
    if (outcome instanceof HostError) console.error(`rowhouse: ${tenant.id}: ${outcome.message}`);
  }
  if (failed.length === 0) return 0;
  const names = failed.map(({ tenant }) => tenant.id).join(", ");
  console.error(`rowhouse: ${failed.length} of ${results.length} tenants were not migrated: ${names}`);
  return 1;
}

function rowOf({ tenant, ms, outcome }: Result): readonly string[] {
  if (outcome instanceof HostError) return [tenant.id, outcome.code, String(ms), ""];
  const result = outcome.applied ? "migrated" : "already applied";
  return [tenant.id, result, String(ms), shortHash(outcome.to)];
}

const shortHash = (shape: ShapeHash): string => shape.slice(0, 12);
