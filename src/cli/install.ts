/** `rowhouse install`: the control schema of each database. */
import type { DatabaseConfig } from "../config/config.ts";
import { type ControlState, controlState, installControl } from "../guard/install.ts";
import { messageOf } from "../kernel/errors.ts";
import { Database } from "../pg/pool.ts";
import type { Command } from "./command.ts";
import { requireDatabases } from "./opened.ts";
import { commandConfig, configOption } from "./options.ts";

export const installCommand: Command = {
  name: "install",
  description: "Install or upgrade the control schema of every configured database",
  args: configOption,
  async run(args) {
    const config = await commandConfig(args);
    requireDatabases(config);
    let complete = true;
    for (const [name, database] of Object.entries(config.databases)) {
      const installed = await install(name, database);
      complete &&= installed;
    }
    return complete ? 0 : 1;
  },
};

/** Whether the control schema is there afterwards. */
async function install(name: string, { url }: DatabaseConfig): Promise<boolean> {
  const observe = (): void => undefined;
  let database: Database | undefined;
  try {
    database = new Database({ name, url, applicationName: "rowhouse:install", observe });
    const before = await controlState(database);
    const after = await installControl(database, observe);
    console.log(`database ${name}: ${whatWasDone(before, after)}`);
    for (const missing of after.missing) console.error(`database ${name}: ${missing}`);
    return after.version >= after.expected;
  } catch (error) {
    console.error(`rowhouse: ${messageOf(error)}`);
    return false;
  } finally {
    await database?.close();
  }
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
