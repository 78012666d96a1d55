/** `rowhouse watch`: publishes changes to a tenant's tables to its subscribers, or lists the watched tables. */
import { QuoteUtils } from "@pgsql/quotes";
import { escapeLiteral } from "pg";
import type { Databases } from "../control/databases.ts";
import { migrateTenant } from "../control/tenant-migration.ts";
import { readWatchedTables } from "../control/watched-tables.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { physicalNames } from "../shared/model/blueprint-spec.ts";
import type { Tenant } from "../tenants/tenant.ts";
import { type Command, UsageError } from "./command.ts";
import { openConfigured } from "./open-tenants.ts";
import { commandConfig, configOption, textOption } from "./options.ts";
import { table } from "./table.ts";

export const watchCommand: Command = {
  name: "watch",
  description:
    "Publish changes to a tenant's tables to its subscribers; without tables, list the watched ones",
  args: {
    tenant: { type: "positional", description: "the tenant's id", required: true },
    tables: { type: "positional", description: "tables, named and quoted as in SQL", required: false },
    undo: { type: "boolean", description: "stop watching them" },
    ...configOption,
  },
  lastRepeats: true,
  async run(args) {
    const tables = tablesOf(args["_"]);
    const undo = args["undo"] === true;
    if (undo && tables.length === 0) throw new UsageError("--undo needs tables");
    const { databases, source, close } = await openConfigured(await commandConfig(args), "watch");
    try {
      const id = textOption(args, "tenant") ?? "";
      const tenant = await source.byId(id);
      if (tenant === null)
        throw new HostError("TENANT_UNKNOWN", `there is no tenant named ${JSON.stringify(id)}`);
      if (tables.length > 0) await watch(databases, tenant, tables, undo ? "unwatch" : "watch");
      await list(databases, tenant);
      return 0;
    } finally {
      await close();
    }
  },
};

/** All positional arguments but the tenant. */
function tablesOf(given: unknown): readonly string[] {
  const words = Array.isArray(given) ? given.filter((each: unknown) => typeof each === "string") : [];
  return words.slice(1);
}

/** In one managed migration, so that revisions move where no event triggers do that. */
async function watch(
  databases: Databases,
  tenant: Tenant,
  tables: readonly string[],
  name: "watch" | "unwatch",
): Promise<void> {
  const calls = tables.map((each) => `select rowhouse.${name}(${escapeLiteral(each)}::regclass);`);
  await migrateTenant(databases.get(tenant.database).migrations, tenant, { sql: calls.join("\n") });
}

async function list(databases: Databases, tenant: Tenant): Promise<void> {
  const found = await readWatchedTables(
    databases.get(tenant.database).database,
    physicalNames(tenant.schemas),
  );
  const rows = found.map(({ schema, table: name, state }) => [
    `${QuoteUtils.quoteIdentifier(schema)}.${QuoteUtils.quoteIdentifier(name)}`,
    state,
  ]);
  console.log(table([["table", "state"], ...rows]));
}
