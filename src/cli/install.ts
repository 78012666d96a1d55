/** `rowhouse install`: the control schema of each database. */
import type { DatabaseConfig } from "../config/config.ts";
import { revokeAdvisoryLocks } from "../guard/advisory-locks.ts";
import { type ControlState, controlState, installControl } from "../guard/install.ts";
import { messageOf } from "../kernel/errors.ts";
import { Database } from "../pg/pool.ts";
import type { Command } from "./command.ts";
import { requireDatabases } from "./opened.ts";
import { commandConfig, configOption } from "./options.ts";

export const installCommand: Command = {
  name: "install",
  description: "Install or upgrade the control schema of every configured database",
  args: {
    ...configOption,
    "revoke-advisory-locks": {
      type: "boolean",
      description:
        "take PostgreSQL's advisory locks from every role but those that may use the control schema",
    },
  },
  async run(args) {
    const config = await commandConfig(args);
    requireDatabases(config);
    let complete = true;
    for (const [name, database] of Object.entries(config.databases)) {
      const installed = await install(name, database, args["revoke-advisory-locks"] === true);
      complete &&= installed;
    }
    return complete ? 0 : 1;
  },
};

/** Whether the control schema is there afterwards, and advisory locks are revoked where they are to be. */
async function install(name: string, { url }: DatabaseConfig, revokes: boolean): Promise<boolean> {
  const observe = (): void => undefined;
  let database: Database | undefined;
  try {
    database = new Database({ name, url, applicationName: "rowhouse:install", observe });
    const before = await controlState(database);
    const after = await installControl(database, observe);
    console.log(`database ${name}: ${whatWasDone(before, after)}`);
    for (const missing of after.missing) console.error(`database ${name}: ${missing}`);
    if (after.version < after.expected) return false;
    return !revokes || (await revoke(name, database));
  } catch (error) {
    console.error(`rowhouse: ${messageOf(error)}`);
    return false;
  } finally {
    await database?.close();
  }
}

async function revoke(name: string, database: Database): Promise<boolean> {
  const { open } = await revokeAdvisoryLocks(database);
  if (open) {
    console.error(
      `database ${name}: advisory locks can be revoked by a superuser only: every role may take them`,
    );
  } else console.log(`database ${name}: advisory locks are for roles that may use the control schema`);
  return !open;
}

function whatWasDone(before: ControlState, after: ControlState): string {
  const { version, expected } = after;
  const triggers = !after.eventTriggers
    ? "no event triggers"
    : `event triggers ${before.eventTriggers ? "in place" : "created"}`;
  if (version < expected) return `control schema not installed (version ${version} of ${expected})`;
  if (version === before.version) return `control schema already at version ${version}, ${triggers}`;
  const how = before.version === 0 ? "installed" : `upgraded from version ${before.version}`;
  return `control schema ${how}, now version ${version}, ${triggers}`;
}
