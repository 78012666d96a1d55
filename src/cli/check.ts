/** `rowhouse check`: validates the config and the databases without serving. */

import { patchFaults, readPatchReports } from "../app/patch-reports.ts";
import type { Config, DatabaseConfig } from "../config/config.ts";
import { tenantDefaults } from "../config/cross-checks.ts";
import { copyFaults } from "../config/preset-copies.ts";
import { listenFault } from "../control/databases.ts";
import { controlState, readOnlyWords } from "../control/install.ts";
import { basisText, initialBasis } from "../decisions/sharing-basis.ts";
import { capacityOf, planCapacity } from "../fleet/policy/capacity.ts";
import { Database } from "../postgres/database.ts";
import { HostError, messageOf } from "../shared/kernel/errors.ts";
import { openModuleSource } from "../tenants/module-source.ts";
import { tenantClashes } from "../tenants/source.ts";
import type { Tenant } from "../tenants/tenant.ts";
import { ConfigError, type Fault } from "../validation/config-error.ts";
import type { Command } from "./command.ts";
import { tenantLines } from "./doctor-findings.ts";
import { openConfigured } from "./open-tenants.ts";
import { commandConfig, configOption } from "./options.ts";
import { tenantFindings } from "./tenant-findings.ts";

export const checkCommand: Command = {
  name: "check",
  description: "Validate the config and the databases without serving; reports every fault at once",
  args: configOption,
  async run(args) {
    const config = await commandConfig(args);
    const faults: Fault[] = [];
    const notes: string[] = [];
    try {
      const plan = planCapacity(capacityOf(config));
      notes.push(
        `memory: ${plan.cells} cells of ${plan.heapMb} MB, ${plan.planMb} MB of ${Math.round(config.cells.memoryMb)} MB`,
      );
    } catch (error) {
      faults.push({ path: "cells", message: messageOf(error) });
    }
    const tenants = await everyTenant(config);
    for (const [name, database] of Object.entries(config.databases)) {
      const own = tenants.filter((tenant) => tenant.database === name);
      await checkDatabase({ name, ...database }, { config, tenants: own }, faults, notes);
      const deaf = await listenFault(name, database, "rowhouse:check");
      if (deaf !== null) faults.push(deaf);
    }
    faults.push(
      ...(await moduleFaults(config)),
      ...(await copyFaults(config.preset)),
      ...patchFaults(await readPatchReports()),
    );
    if (faults.length > 0) throw new ConfigError(faults);
    // In a list this would be a fault; with other sources, a host serves the remaining tenants.
    if (config.tenants.kind !== "list") {
      notes.push(...tenantClashes(tenants).map(({ message }) => `tenants: ${message}`));
    }
    if (config.pooling)
      notes.push(`pooling: tenants share by ${basisText(initialBasis(config.preset === null))}`);
    for (const note of notes) console.log(note);
    console.log(`config: ${config.file ?? "none; defaults and environment"}: no faults`);
    return 0;
  },
};

interface Checked {
  readonly config: Config;
  /** The tenants of this database. */
  readonly tenants: readonly Tenant[];
}

async function checkDatabase(
  { name, url, install }: DatabaseConfig & { readonly name: string },
  { config, tenants }: Checked,
  faults: Fault[],
  notes: string[],
): Promise<void> {
  const path = `databases.${name}`;
  let database: Database;
  try {
    database = new Database({ name, url, applicationName: "rowhouse:check", observe: () => undefined });
  } catch (error) {
    faults.push({ path: `${path}.url`, message: messageOf(error) });
    return;
  }
  try {
    const needs = { tenants: config.tenants.kind === "table" && config.tenants.database === name };
    const { version, expected, installable, session, missing } = await controlState(database, needs);
    notes.push(`database ${name}: reachable, control schema version ${version} of ${expected}`);
    if (version < expected && !(install && installable) && config.guard !== "off") {
      const needed = `guard "${config.guard}" needs the control schema, which is at version ${version} of ${expected}`;
      faults.push(...[needed, ...missing].map((message) => ({ path, message })));
    } else {
      notes.push(...missing.map((each) => `database ${name}: ${each}`));
    }
    if (session.readOnly) {
      notes.push(`database ${name}: ${readOnlyWords(session)}: writes fail with DATABASE_READ_ONLY`);
    }
    // If tenants come from a table or a module, a host serves the others, so a missing schema is no fault of
    // the config.
    const isConfig = config.tenants.kind === "list";
    const absent = await missingSchemas(tenants, database);
    if (isConfig) faults.push(...absent);
    else notes.push(...absent.map((each) => `${each.path}: ${each.message}`));
    const found = await database.transaction((transaction) =>
      tenantFindings(transaction, tenants, { preset: config.preset !== null }),
    );
    for (const { level, text } of tenantLines(found)) {
      if (level === "fault" && isConfig) faults.push({ path, message: text });
      else notes.push(`database ${name}: ${text}`);
    }
  } catch (error) {
    const message = error instanceof HostError ? error.message : messageOf(error);
    faults.push({ path, message });
  } finally {
    await database.close();
  }
}

/** Faults of a tenant module with which `serve` would not start. */
async function moduleFaults({ tenants, databases }: Config): Promise<readonly Fault[]> {
  if (tenants.kind !== "module") return [];
  const defaults = tenantDefaults(Object.keys(databases));
  try {
    const source = await openModuleSource({ url: tenants.url, defaults, observe: () => undefined });
    await source.close();
    return [];
  } catch (error) {
    return error instanceof ConfigError
      ? error.faults
      : [{ path: "tenants.module", message: messageOf(error) }];
  }
}

/** Every tenant that the source can list; none if it fails, which does not prevent serving either. */
async function everyTenant(config: Config): Promise<readonly Tenant[]> {
  if (config.tenants.kind === "list") return config.tenants.list;
  try {
    const { source, close } = await openConfigured(config, "check");
    try {
      return await source.list();
    } finally {
      await close();
    }
  } catch {
    return [];
  }
}

/** Served schemas that do not exist, as faults. */
async function missingSchemas(tenants: readonly Tenant[], database: Database): Promise<Fault[]> {
  const served = tenants.flatMap((tenant) =>
    tenant.schemas.map(({ physical }) => ({ tenant: tenant.id, physical })),
  );
  const { rows } = await database.query(
    "select array(select name from unnest($1::text[]) name where to_regnamespace(quote_ident(name)) is null) as missing",
    [served.map((each) => each.physical)],
  );
  const missing = new Set(missingIn(rows[0]));
  return served
    .filter((each) => missing.has(each.physical))
    .map(({ tenant, physical }) => ({
      path: `tenant ${tenant}`,
      message: `schema ${physical} does not exist`,
    }));
}

function missingIn(row: unknown): readonly string[] {
  if (typeof row !== "object" || row === null || !("missing" in row) || !Array.isArray(row.missing))
    return [];
  return row.missing.filter((each: unknown) => typeof each === "string");
}
