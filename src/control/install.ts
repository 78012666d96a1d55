/** Installs and upgrades the control schema of a database: numbered migrations, and the event triggers where it may. */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { z } from "zod";
import type { Observe } from "../observability/observation.ts";
import type { Database, Queryable, Transaction } from "../postgres/database.ts";
import type { SessionState } from "../shared/connect/session-state.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { hideStatements, hidesStatements } from "../shared/postgres/hidden-statements.ts";
import { hasState } from "../shared/postgres/sqlstate.ts";
import { formerOwnerSql, grantSql, missingRights, neededRights, rightsText } from "./rights.ts";

export interface ControlState {
  /** The last migration that is installed; 0: none. */
  readonly version: number;
  /** The last migration that this version of the host knows. */
  readonly expected: number;
  /** Whether the connecting role may bring the one to the other. */
  readonly installable: boolean;
  /** Whether DDL issued by hand moves revisions. */
  readonly eventTriggers: boolean;
  /** Whether tenants' functions are kept from the names of what is prepared. */
  readonly hidesStatements: boolean;
  /** Whether the connecting role may list them all the same. */
  readonly listsStatements: boolean;
  /** Nothing is installed on a standby, or where transactions are read-only. */
  readonly session: SessionState;
  /** What is not there, with what to do and what still holds, a sentence each. */
  readonly missing: readonly string[];
}

interface Migration {
  readonly version: number;
  readonly name: string;
  readonly text: string;
  readonly checksum: string;
}

const directory = new URL("sql/", import.meta.url);
const filePattern = /^(\d{3})-[a-z-]+\.sql$/;

const noTenants: ControlNeeds = { tenants: false };

/**
 * Brings the control schema of `database` up to date; does nothing where it is, also when several hosts do it at once.
 * Where the role lacks a right, what it lacks is in `missing`. Throws `CONFIG_INVALID` where the database has another
 * text of a migration than this host, and `DATABASE_UNREACHABLE`.
 */
export async function installControl(
  database: Database,
  observe: Observe,
  needs: ControlNeeds = noTenants,
): Promise<ControlState> {
  const migrations = await readMigrations();
  const before = await stateOf(database, migrations, needs);
  if (before.missing.length > 0 && !before.session.readOnly) {
    try {
      await database.transaction((transaction) => apply(transaction, migrations));
    } catch (error) {
      // The role may not: what is missing afterwards says so.
      if (!hasState(error, "insufficient_privilege")) throw error;
    }
    // Separately: without the right to it, the rest still stands.
    await createEventTriggers(database);
    await hidePreparedStatements(database);
  }
  const state = await stateOf(database, migrations, needs);
  const { version, eventTriggers, missing } = state;
  observe({ kind: "control.installed", database: database.name, version, eventTriggers, missing });
  return state;
}

/** What a host is to do in the database beside guarding. */
export interface ControlNeeds {
  /** Whether tenants come from the table there. */
  readonly tenants: boolean;
  /** Whether it serves subscribers. */
  readonly realtime?: boolean;
}

/** What `installControl` would find, read only. */
export async function controlState(
  database: Queryable,
  needs: ControlNeeds = noTenants,
): Promise<ControlState> {
  return stateOf(database, await readMigrations(), needs);
}

async function apply(transaction: Transaction, migrations: readonly Migration[]): Promise<void> {
  await lockInstall(transaction);
  if (!(await hasTable(transaction, "migration"))) {
    await transaction.execute(`
      create schema if not exists rowhouse;
      create table rowhouse.migration (
        version integer primary key,
        name text not null,
        checksum text not null,
        installed_at timestamptz not null default now()
      )`);
  }
  const installed = await readInstalled(transaction);
  for (const { version, name, text, checksum } of migrations) {
    if (installed.has(version)) continue;
    await transaction.execute(text);
    await transaction.query("insert into rowhouse.migration (version, name, checksum) values ($1, $2, $3)", [
      version,
      name,
      checksum,
    ]);
  }
  await enrol(transaction);
}

/** Gives a revision to the schemas that were there first, or came while there were no event triggers. */
async function enrol(transaction: Queryable): Promise<void> {
  await transaction.query(`
    insert into rowhouse.schema_revision (schema_name)
    select nspname from pg_catalog.pg_namespace where rowhouse.has_revision(nspname)
    on conflict do nothing`);
}

async function createEventTriggers(database: Database): Promise<void> {
  const text = await readFile(new URL("event-triggers.sql", directory), "utf8");
  try {
    await database.transaction(async (transaction) => {
      await lockInstall(transaction);
      const { present, enabled } = await readTriggers(transaction);
      if (!(await hasTable(transaction, "schema_touch"))) return;
      if (present === 0) {
        const former = await readOwner(transaction);
        await transaction.execute(text);
        if (former !== null) await transaction.execute(formerOwnerSql(former));
        await enrol(transaction);
      } else if (!enabled) {
        await transaction.execute(`
          alter event trigger rowhouse_ddl_command_end enable always;
          alter event trigger rowhouse_sql_drop enable always`);
      }
    });
  } catch (error) {
    if (!hasState(error, "insufficient_privilege")) throw error;
  }
}

/** Who owns the control schema; null where it is the connecting role. */
async function readOwner(database: Queryable): Promise<string | null> {
  const { rows } = await database.query(`
    select nullif(pg_get_userbyid(nspowner), current_user)::text as owner
    from pg_catalog.pg_namespace where nspname = 'rowhouse'`);
  return z.object({ owner: z.string().nullable() }).parse(rows[0]).owner;
}

/** Without the right to revoke it, PostgreSQL only warns. */
async function hidePreparedStatements(database: Database): Promise<void> {
  await database.transaction(async (transaction) => {
    await lockInstall(transaction);
    if (!(await readListing(transaction)).hidesStatements) await transaction.execute(hideStatements);
  });
}

async function stateOf(
  database: Queryable,
  migrations: readonly Migration[],
  needs: ControlNeeds,
): Promise<ControlState> {
  const expected = migrations.at(-1)?.version ?? 0;
  const place = await readPlace(database);
  const { role, database: name, creates, owner, owns, standby, readOnly } = place;
  const session = { standby, readOnly };
  const { hidesStatements, listsStatements } = await readListing(database);
  const { present, enabled } = await readTriggers(database);
  const eventTriggers = present === 2 && enabled;
  const installable = !readOnly && (owner === null ? creates : owns);
  const as = (who: string): string => `run "rowhouse install" as ${who}`;
  const fatal = await lackingRights(database, place, { ...needs, looks: false });
  if (fatal !== null) {
    return {
      version: 0,
      expected,
      installable: owns,
      eventTriggers: false,
      hidesStatements,
      listsStatements,
      session,
      missing: [fatal],
    };
  }
  const version = owner === null ? 0 : await installedVersion(database, name, migrations);
  const missing: string[] = [];
  if (version < expected) {
    const who =
      owner ?? (creates ? role : `a role that may create schemas (grant create on database ${name})`);
    missing.push(`the control schema is at version ${version} of ${expected}: ${as(who)}`);
  }
  if (!eventTriggers) {
    missing.push(
      `the event triggers are ${present < 2 ? "missing" : "disabled"}: ${as("a superuser")}; until then revisions move with managed migrations and rowhouse.touch_schemas only, and other DDL is found by polling (guardPoll)`,
    );
    const turn = await lackingRights(database, place, { ...needs, looks: true });
    if (turn !== null)
      missing.push(`${turn}; until then each host polls by itself, and guards do not see what it finds`);
  }
  if (!hidesStatements) {
    missing.push(
      `tenants' functions can list a connection's prepared statements: ${as("a superuser")}; until then a connection prepares its statements again whenever it changes tenants`,
    );
  }
  if (readOnly && missing.length > 0) missing.push(`${readOnlyWords(session)}: nothing can be installed`);
  return {
    version,
    expected,
    installable,
    eventTriggers,
    hidesStatements,
    listsStatements,
    session,
    missing,
  };
}

async function readPlace(database: Queryable): Promise<Place> {
  const { rows } = await database.query(`
    select current_user as role, current_database() as database, pg_is_in_recovery() as standby,
      current_setting('transaction_read_only')::bool as "readOnly",
      has_database_privilege(current_database(), 'create') as creates,
      pg_get_userbyid(n.nspowner) as owner,
      coalesce(pg_has_role(n.nspowner, 'usage'), false) as owns
    from (values (1)) one left join pg_catalog.pg_namespace n on n.nspname = 'rowhouse'`);
  return placeSchema.parse(rows[0]);
}

/** The rights in somebody's control schema that the connecting role needs and lacks, and what would give it them; null: it lacks none. */
async function lackingRights(
  database: Queryable,
  { role, owner, database: name }: Place,
  needs: ControlNeeds & { readonly looks: boolean },
): Promise<string | null> {
  if (owner === null) return null;
  const lacking = await missingRights(database, neededRights(needs));
  if (lacking.length === 0) return null;
  return `role ${role} may not ${rightsText(lacking)} of database ${name}; as ${owner}: ${grantSql(lacking, role)} ("rowhouse install --grant" grants everything a host needs)`;
}

/** Why nothing can be written where a session is like that, and what to do. */
export function readOnlyWords({ standby }: SessionState): string {
  return standby
    ? "the server is a standby (connect to the primary, or list all hosts with target_session_attrs=read-write)"
    : "transactions are read-only (default_transaction_read_only is set for the server, the database or the role)";
}

/**
 * The highest version up to which no migration is missing: a version between two releases may have installed a later one without an
 * earlier one.
 */
async function installedVersion(
  database: Queryable,
  name: string,
  migrations: readonly Migration[],
): Promise<number> {
  const installed = await readInstalled(database);
  for (const { version, checksum, name: file } of migrations) {
    if (installed.has(version) && installed.get(version) !== checksum) {
      throw new HostError(
        "CONFIG_INVALID",
        `database ${name}: migration ${file} of schema rowhouse was installed with a different text from this version's`,
      );
    }
  }
  const absent = migrations.findIndex((migration) => !installed.has(migration.version));
  return absent === -1 ? Math.max(0, ...installed.keys()) : (migrations[absent - 1]?.version ?? 0);
}

const placeSchema = z.object({
  role: z.string(),
  database: z.string(),
  standby: z.boolean(),
  readOnly: z.boolean(),
  creates: z.boolean(),
  owner: z.string().nullable(),
  owns: z.boolean(),
});
type Place = z.infer<typeof placeSchema>;

async function readInstalled(database: Queryable): Promise<Map<number, string>> {
  const { rows } = await database.query("select version, checksum from rowhouse.migration");
  const parsed = z.array(z.object({ version: z.number(), checksum: z.string() })).parse(rows);
  return new Map(parsed.map(({ version, checksum }) => [version, checksum]));
}

/** Asked of the catalogue: `to_regclass` answers from a cache which the advisory lock does not refresh. */
async function hasTable(database: Queryable, name: string): Promise<boolean> {
  const { rows } = await database.query(
    `select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'rowhouse' and c.relname = $1`,
    [name],
  );
  return rows.length === 1;
}

/** How many of the two event triggers there are, and whether all of those are enabled. */
export async function readTriggers(database: Queryable): Promise<{ present: number; enabled: boolean }> {
  const { rows } = await database.query(`
    select count(*)::int as present, coalesce(bool_and(evtenabled <> 'D'), false) as enabled
    from pg_catalog.pg_event_trigger where evtname in ('rowhouse_ddl_command_end', 'rowhouse_sql_drop')`);
  return z.object({ present: z.number(), enabled: z.boolean() }).parse(rows[0]);
}

async function readListing(
  database: Queryable,
): Promise<Pick<ControlState, "hidesStatements" | "listsStatements">> {
  const { rows } = await database.query(`
    select not exists (
      select from pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a where a.grantee = 0
    ) as "hidesStatements", not ${hidesStatements} as "listsStatements"
    from pg_catalog.pg_proc p where p.oid = 'pg_catalog.pg_prepared_statement()'::regprocedure`);
  return z.object({ hidesStatements: z.boolean(), listsStatements: z.boolean() }).parse(rows[0]);
}

/** Held to the end of the transaction: of several hosts that start at once, one installs. */
async function lockInstall(transaction: Queryable): Promise<void> {
  await transaction.query("select pg_advisory_xact_lock(hashtextextended('rowhouse.install', 0))");
}

async function readMigrations(): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => filePattern.test(name)).sort();
  return Promise.all(
    names.map(async (name) => {
      const text = await readFile(new URL(name, directory), "utf8");
      const checksum = createHash("sha256").update(text).digest("hex");
      return { version: Number(name.slice(0, 3)), name, text, checksum };
    }),
  );
}
