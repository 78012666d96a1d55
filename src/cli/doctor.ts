/** `rowhouse doctor`: checks the environment, one line per finding. */

import { readPatchReports } from "../app/patch-reports.ts";
import { availableMemoryMb } from "../config/available-memory.ts";
import type { Config, DatabaseConfig } from "../config/config.ts";
import { listenFault } from "../control/databases.ts";
import { basisText, initialBasis } from "../decisions/sharing-basis.ts";
import { capacityOf, planCapacity } from "../fleet/policy/capacity.ts";
import { cellsWithConnections, type PoolNeeds } from "../fleet/policy/pool-room.ts";
import { Database } from "../postgres/database.ts";
import { messageOf } from "../shared/kernel/errors.ts";
import { tenantClashes } from "../tenants/source.ts";
import type { Tenant } from "../tenants/tenant.ts";
import type { Command } from "./command.ts";
import { type FactsOptions, readFacts } from "./doctor-facts.ts";
import {
  type DatabaseFacts,
  diagnoseDatabase,
  diagnosePatches,
  diagnosePools,
  type Finding,
} from "./doctor-findings.ts";
import { openConfigured, requireDatabases } from "./open-tenants.ts";
import { commandConfig, configOption } from "./options.ts";

export const doctorCommand: Command = {
  name: "doctor",
  description: "Check connections, versions, roles, pools and memory; prints ok, warn or fail per line",
  args: configOption,
  async run(args) {
    const config = await commandConfig(args);
    requireDatabases(config);
    const findings = await examine(config);
    for (const { level, about, text } of findings) console.log(`${level.padEnd(4)}  ${about}: ${text}`);
    return findings.some(({ level }) => level === "fail") ? 1 : 0;
  },
};

async function examine(config: Config): Promise<readonly Finding[]> {
  const { tenants, findings: ofTenants } = await tenantsOf(config);
  const known: DatabaseFacts[] = [];
  const findings: Finding[] = [];
  for (const [name, database] of Object.entries(config.databases)) {
    const own = tenants.filter((tenant) => tenant.database === name);
    const tenantTable = config.tenants.kind === "table" && config.tenants.database === name;
    const { acceptedSql, preset } = config;
    const facts = await lookAt(name, database, own, { acceptedSql, preset, tenantTable });
    if ("level" in facts) findings.push(facts);
    else {
      known.push(facts);
      findings.push(...diagnoseDatabase(facts, config));
    }
    const deaf = await listenFault(name, database, "rowhouse:doctor");
    if (deaf !== null)
      findings.push({ level: "fail", about: `listenUrl of database ${name}`, text: deaf.message });
  }
  const memory = memoryFindings(config, cellsWithConnections(known.map(needsOf)));
  const patches = diagnosePatches(await readPatchReports());
  const pools = diagnosePools(known, memory);
  return [...findings, ...ofTenants, ...sharingFindings(config), ...pools, ...memory.findings, ...patches];
}

function sharingFindings({ pooling, preset }: Config): readonly Finding[] {
  if (!pooling) return [];
  const text = `tenants share instances by ${basisText(initialBasis(preset === null))}`;
  return [{ level: "ok", about: "pooling", text }];
}

const needsOf = ({ server, connections, limits, ...pools }: DatabaseFacts): PoolNeeds => ({
  ...pools,
  limits: { server, connections, ...limits },
});

async function lookAt(
  name: string,
  config: DatabaseConfig,
  tenants: readonly Tenant[],
  options: FactsOptions,
): Promise<DatabaseFacts | Finding> {
  let database: Database | undefined;
  try {
    database = new Database({
      name,
      url: config.url,
      applicationName: "rowhouse:doctor",
      observe: () => undefined,
    });
    return await readFacts(database, config, tenants, options);
  } catch (error) {
    return { level: "fail", about: `database ${name}`, text: messageOf(error) };
  } finally {
    await database?.close();
  }
}

/** Every tenant that the source can list, and a finding if it fails. */
async function tenantsOf(
  config: Config,
): Promise<{ readonly tenants: readonly Tenant[]; readonly findings: readonly Finding[] }> {
  if (config.tenants.kind === "list") {
    return { tenants: config.tenants.list, findings: [counted(config.tenants.list)] };
  }
  try {
    const { source, close } = await openConfigured(config, "doctor");
    try {
      const tenants = await source.list();
      const clashes = tenantClashes(tenants).map(
        ({ message: text }): Finding => ({ level: "warn", about: "tenants", text }),
      );
      return { tenants, findings: [counted(tenants), ...clashes] };
    } finally {
      await close();
    }
  } catch (error) {
    return { tenants: [], findings: [{ level: "fail", about: "tenants", text: messageOf(error) }] };
  }
}

function counted(tenants: readonly Tenant[]): Finding {
  return tenants.length === 0
    ? {
        level: "warn",
        about: "tenants",
        text: "the source lists none, so roles and schemas were not checked",
      }
    : { level: "ok", about: "tenants", text: `${tenants.length} in the source` };
}

function memoryFindings(
  config: Config,
  connected: number,
): {
  readonly cells: number;
  readonly findings: readonly Finding[];
} {
  const about = "memory";
  const figures = config.cells;
  try {
    const { cells, heapMb, planMb, boundBy } = planCapacity(capacityOf(config), connected);
    const why =
      boundBy === "connections" ? " (limited to leave connections for others; cells.max is not set)" : "";
    const text = `${cells} cells of ${heapMb} MB and the front: ${planMb} MB of ${figures.memoryMb} MB${why}`;
    const there = availableMemoryMb();
    if (planMb > there) {
      return {
        cells,
        findings: [{ level: "fail", about, text: `${text}, but only ${there} MB are available` }],
      };
    }
    return { cells, findings: [{ level: "ok", about, text }] };
  } catch (error) {
    return { cells: 0, findings: [{ level: "fail", about, text: messageOf(error) }] };
  }
}
