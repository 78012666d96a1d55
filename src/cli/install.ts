/** `rowhouse install`: installs the control schema in each database, and grants access to it. */
import { QuoteUtils } from "@pgsql/quotes";
import type { DatabaseConfig } from "../config/config.ts";
import { revokeAdvisoryLocks } from "../control/advisory-locks.ts";
import { type ControlState, controlState, installControl } from "../control/install.ts";
import { grantRights, grantSql, type Purpose, rightsOf } from "../control/rights.ts";
import { Database } from "../postgres/database.ts";
import { messageOf } from "../shared/kernel/errors.ts";
import { type Command, UsageError } from "./command.ts";
import { requireDatabases } from "./open-tenants.ts";
import { commandConfig, configOption } from "./options.ts";

export const installCommand: Command = {
  name: "install",
  description: "Install or upgrade the control schema of every configured database",
  args: {
    ...configOption,
    grant: {
      type: "string",
      description: "grant a role what a host needs (repeatable, or comma-separated)",
      valueHint: "ROLE",
    },
    "grant-migrations": {
      type: "string",
      description:
        "grant a role what rowhouse migrate and rowhouse.touch_schemas need (repeatable, or comma-separated)",
      valueHint: "ROLE",
    },
    "grant-publish": {
      type: "string",
      description: "let a tenant's role call rowhouse.publish (repeatable, or comma-separated)",
      valueHint: "ROLE",
    },
    "revoke-advisory-locks": {
      type: "boolean",
      description: "revoke PostgreSQL's advisory locks from every role except those of hosts and migrations",
    },
  },
  repeatable: ["grant", "grant-migrations", "grant-publish"],
  async run(args) {
    const wishes: Wishes = {
      grants: [
        ...grantsOf(args["grant"], "serve"),
        ...grantsOf(args["grant-migrations"], "migrate"),
        ...grantsOf(args["grant-publish"], "publish"),
      ],
      revokesLocks: args["revoke-advisory-locks"] === true,
    };
    const config = await commandConfig(args);
    requireDatabases(config);
    let complete = true;
    for (const [name, database] of Object.entries(config.databases)) {
      const installed = await install(name, database, wishes);
      complete &&= installed;
    }
    return complete ? 0 : 1;
  },
};

interface Grant {
  readonly role: string;
  readonly purpose: Purpose;
}

interface Wishes {
  readonly grants: readonly Grant[];
  readonly revokesLocks: boolean;
}

/** An entry between commas; commas inside double quotes do not separate. */
const entries = /(?:[^",]|"[^"]*")+/g;

/**
 * The roles named by an option, separated by commas and quoted as in SQL. Throws a UsageError if the text is
 * no list of names.
 */
export function roleNames(text: string): readonly string[] {
  const found = text.match(entries) ?? [];
  const names = found.map((entry) => nameIn(entry.trim()));
  // Fails if anything but commas separates the entries.
  const isWhole = found.join(",") === text;
  if (names.length === 0 || !isWhole || names.includes(null)) {
    throw new UsageError(
      `${JSON.stringify(text)} is not a list of roles: separate names by commas, and put a name with a comma or a quote in double quotes`,
    );
  }
  return names.filter((name) => name !== null);
}

/** The name in an entry, unquoted; null if it is not a valid one. */
function nameIn(entry: string): string | null {
  if (!entry.startsWith('"')) return entry === "" || entry.includes('"') ? null : entry;
  const inner = entry.slice(1, -1);
  const isQuoted = entry.length > 2 && entry.endsWith('"') && !inner.replaceAll('""', "").includes('"');
  return isQuoted ? inner.replaceAll('""', '"') : null;
}

function grantsOf(values: unknown, purpose: Purpose): Grant[] {
  const texts = Array.isArray(values) ? values.filter((each: unknown) => typeof each === "string") : [];
  return [...new Set(texts.flatMap(roleNames))].map((role) => ({ role, purpose }));
}

/** Whether the control schema is present afterwards, and everything else requested was done. */
async function install(name: string, { url }: DatabaseConfig, wishes: Wishes): Promise<boolean> {
  const observe = (): void => undefined;
  let database: Database | undefined;
  try {
    database = new Database({ name, url, applicationName: "rowhouse:install", observe });
    const before = await controlState(database);
    const after = await installControl(database, observe);
    console.log(`database ${name}: ${whatWasDone(before, after)}`);
    for (const missing of after.missing) console.error(`database ${name}: ${missing}`);
    if (after.version < after.expected) {
      for (const { role, purpose } of wishes.grants) {
        console.error(
          `database ${name}: afterwards, as the owner of schema rowhouse: ${grantSql(rightsOf[purpose], role)}`,
        );
      }
      return false;
    }
    let complete = true;
    for (const grant of wishes.grants) complete = (await give(name, database, grant)) && complete;
    return (!wishes.revokesLocks || (await revoke(name, database))) && complete;
  } catch (error) {
    console.error(`rowhouse: ${messageOf(error)}`);
    return false;
  } finally {
    await database?.close();
  }
}

const purposes: Readonly<Record<Purpose, string>> = {
  serve: "to serve",
  migrate: "to migrate",
  publish: "to publish",
};

async function give(name: string, database: Database, { role, purpose }: Grant): Promise<boolean> {
  const { given, lacking } = await grantRights(database, role, purpose);
  const about = `database ${name}: role ${JSON.stringify(role)}`;
  if (given === null) {
    const create = role.toLowerCase() === "public" ? "name a role" : createSql(role);
    console.error(`${about} does not exist: ${create} and run the command again`);
    return false;
  }
  if (lacking.length > 0) {
    console.error(
      `${about} lacks privileges that the connecting role may not grant; as the owner of schema rowhouse: ${grantSql(lacking, role)}`,
    );
    return false;
  }
  const done = given.length === 0 ? "already has what it needs" : "was granted what it needs";
  console.log(`${about} ${done} ${purposes[purpose]}`);
  return true;
}

/** A group role: the logins of hosts become members and inherit its privileges. */
const createSql = (role: string): string => `create role ${QuoteUtils.quoteIdentifier(role)} nologin;`;

async function revoke(name: string, database: Database): Promise<boolean> {
  const { open } = await revokeAdvisoryLocks(database);
  if (open) {
    console.error(
      `database ${name}: only a superuser can revoke advisory locks: every role may still take them`,
    );
  } else console.log(`database ${name}: advisory locks are restricted to the roles of hosts and migrations`);
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
