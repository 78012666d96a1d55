/** Opens what commands about tenants need: the configured databases and the tenant source. */

import { openSource } from "../app/tenants.ts";
import type { Config } from "../config/config.ts";
import { Databases } from "../control/databases.ts";
import type { Observation } from "../observability/observation.ts";
import { HostError } from "../shared/kernel/errors.ts";
import type { TenantSource } from "../tenants/source.ts";

export interface Opened {
  readonly databases: Databases;
  readonly source: TenantSource;
  close(): Promise<void>;
}

/** Throws `CONFIG_INVALID` if nothing is configured, which would mean the demo. */
export function requireDatabases(config: Config): void {
  if (config.tenants.kind !== "demo") return;
  throw new HostError(
    "CONFIG_INVALID",
    "no database is configured: set databases in the config, or DATABASE_URL",
  );
}

/** Opens both without installing anything; `command` names the connections. */
export async function openConfigured(
  config: Config,
  command: string,
  parallelMigrations = 1,
): Promise<Opened> {
  requireDatabases(config);
  const databases = await Databases.open({
    databases: Object.fromEntries(
      Object.entries(config.databases).map(([name, database]) => [name, { ...database, install: false }]),
    ),
    guard: "off",
    applicationName: `rowhouse:${command}`,
    observe: warn,
    parallelMigrations,
  });
  try {
    const source = await openSource(config, databases, warn);
    const close = async (): Promise<void> => {
      await source.close();
      await databases.close();
    };
    return { databases, source, close };
  } catch (error) {
    await databases.close();
    throw error;
  }
}

/** The command leaves out invalid records, which must not go unnoticed. */
function warn(observation: Observation): void {
  if (observation.kind !== "config.warning") return;
  console.error(`rowhouse: ${observation.path}: ${observation.message}`);
}
