/** `rowhouse check`: the config and the databases, without serving. */
import { planCapacity } from "../cell/capacity.ts";
import { tenantDefaults } from "../config/checks.ts";
import type { Config, DatabaseConfig } from "../config/config.ts";
import { controlState } from "../guard/install.ts";
import { HostError, messageOf } from "../kernel/errors.ts";
import { ConfigError, type Fault } from "../kernel/fault.ts";
import { Database } from "../pg/pool.ts";
import { copyFaults } from "../preset-copies.ts";
import { openModuleSource } from "../tenant/source-module.ts";
import { tenantClashes } from "../tenant/sources.ts";
import type { Command } from "./command.ts";
import { listenFault, openConfigured } from "./opened.ts";
import { commandConfig, configOption } from "./options.ts";

export const checkCommand: Command = {
  name: "check",
  description: "Validate the config and the databases without serving: every fault at once",
  args: configOption,
  async run(args) {
    const config = await commandConfig(args);
    const faults: Fault[] = [];
    const notes: string[] = [];
    try {
      const plan = planCapacity(config.cells);
      notes.push(
        `memory: ${plan.cells} cells of ${plan.heapMb} MB, ${plan.planMb} MB of ${Math.round(config.cells.memoryMb)} MB`,
      );
    } catch (error) {
      faults.push({ path: "cells", message: messageOf(error) });
    }
    for (const [name, database] of Object.entries(config.databases)) {
      await checkDatabase(name, database, config, faults, notes);
      const deaf = await listenFault(name, database, "rowhouse:check");
      if (deaf !== null) faults.push({ path: `databases.${name}.listenUrl`, message: deaf });
    }
    faults.push(...(await moduleFaults(config)), ...(await copyFaults(config.preset)));
    if (faults.length > 0) throw new ConfigError(faults);
    notes.push(...(await clashNotes(config)));
    for (const note of notes) console.log(note);
    console.log(`config: ${config.file ?? "none; defaults and environment"}: no faults`);
    return 0;
  },
};

async function checkDatabase(
  name: string,
  { url, install }: DatabaseConfig,
  config: Config,
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
    const { version, expected, installable, missing } = await controlState(database);
    notes.push(`database ${name}: reachable, control schema version ${version} of ${expected}`);
    if (version < expected && !(install && installable) && config.guard !== "off") {
      const needed = `guard "${config.guard}" needs the control schema, which is version ${version} of ${expected}`;
      faults.push(...[needed, ...missing].map((message) => ({ path, message })));
    } else {
      notes.push(...missing.map((each) => `database ${name}: ${each}`));
    }
    faults.push(...(await missingSchemas(name, config, database)));
  } catch (error) {
    const message = error instanceof HostError ? error.message : messageOf(error);
    faults.push({ path, message });
  } finally {
    await database.close();
  }
}

/** What is wrong with a module of tenants that `serve` would not start with. */
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

/** What tenants claim of each other's in a table or a module's list: a host serves the others, and so it is no fault. */
async function clashNotes(config: Config): Promise<readonly string[]> {
  if (config.tenants.kind === "list" || config.tenants.kind === "demo") return [];
  try {
    const { source, close } = await openConfigured(config, "check");
    try {
      return tenantClashes(await source.list()).map(({ message }) => `tenants: ${message}`);
    } finally {
      await close();
    }
  } catch {
    // A table that is not there yet, or a module whose list fails: serving does not take either.
    return [];
  }
}

/** Served schemas of listed tenants that do not exist. */
async function missingSchemas(name: string, { tenants }: Config, database: Database): Promise<Fault[]> {
  if (tenants.kind !== "list") return [];
  const served = tenants.list
    .filter((tenant) => tenant.database === name)
    .flatMap((tenant) => tenant.schemas.map(({ physical }) => ({ tenant: tenant.id, physical })));
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
