/** Opens the configured databases: the front's connections, notifications, and the state of the control schema. */
import type { DatabaseConfig } from "../config/config.ts";
import type { Observe } from "../observability/observation.ts";
import { terminateBackends } from "../postgres/backends.ts";
import { Database } from "../postgres/database.ts";
import { Listener } from "../postgres/listener.ts";
import { HostError, messageOf } from "../shared/kernel/errors.ts";
import { controlState, installControl } from "./install.ts";
import { keepingText, keepsStatements } from "./kept-statements.ts";

export interface OpenDatabase {
  readonly database: Database;
  /** Created but not yet listening, so that handlers can be added first. */
  readonly listener: Listener;
  /** For migrations: each gets a connection of its own. */
  readonly migrations: Database;
  /** Whether the database has the control schema, which keeps revisions. */
  readonly control: boolean;
  /** Whether event triggers maintained them when it was opened. */
  readonly eventTriggers: boolean;
  /** The config path of the URL for LISTEN, such as `databases.main.listenUrl`. */
  readonly listensBy: string;
}

export interface DatabasesOptions {
  readonly databases: Readonly<Record<string, DatabaseConfig>>;
  readonly guard: "writes" | "all" | "off";
  readonly applicationName: string;
  readonly observe: Observe;
  /** The database that holds the table of tenants, if they come from one. */
  readonly tenantTable?: string | null;
  /** Whether hosts' subscribers hear of events there. */
  readonly realtime?: boolean;
  /** Maximum number of concurrent migrations per database; more wait. */
  readonly parallelMigrations?: number;
}

/**
 * Connections for probes; a tenant has to wait for a second one. Probing may read a view behind an enum and
 * take long: two such tenants leave one for others, and a last connection serves work for no tenant.
 */
const probes = { size: 1, reserve: 2, timeoutMs: 10_000, code: "NO_CAPACITY" } as const;

export class Databases {
  readonly #open: ReadonlyMap<string, OpenDatabase>;
  readonly #observe: Observe;

  private constructor(open: ReadonlyMap<string, OpenDatabase>, observe: Observe) {
    this.#open = open;
    this.#observe = observe;
  }

  /**
   * Connects to each database, and installs or upgrades its control schema if allowed. Throws
   * `DATABASE_UNREACHABLE`, and `CONFIG_INVALID` if the schema is needed and cannot be installed.
   */
  static async open(options: DatabasesOptions): Promise<Databases> {
    const { observe } = options;
    const opened = new Map<string, OpenDatabase>();
    const databases = new Databases(opened, observe);
    try {
      for (const [name, config] of Object.entries(options.databases)) {
        const applicationName = `${options.applicationName}:front`;
        const listener = new Listener({ name, url: config.listenUrl, applicationName, observe });
        const database = new Database({
          name,
          url: config.url,
          applicationName,
          observe,
          maxConnections: probes.size + probes.reserve + 1,
          shares: probes,
          // The listener may be connected to the same server, which is a standby now.
          onMoved: () => listener.check(),
        });
        const migrations = new Database({
          name,
          url: config.url,
          applicationName: `${options.applicationName}:migrate`,
          observe,
          maxConnections: options.parallelMigrations ?? 1,
          freshConnections: true,
        });
        const listensBy = listenPath(name, config);
        const parts = { database, listener, migrations, listensBy };
        opened.set(name, { ...parts, control: false, eventTriggers: false });
        opened.set(name, { ...parts, ...(await control(database, config, options)) });
      }
    } catch (error) {
      await databases.close();
      throw error;
    }
    return databases;
  }

  get(name: string): OpenDatabase {
    const database = this.#open.get(name);
    if (database === undefined) throw new HostError("INTERNAL", `there is no database named ${name}`);
    return database;
  }

  get names(): readonly string[] {
    return [...this.#open.keys()];
  }

  /**
   * Starts listening; call it when every handler is registered. Warns as soon as it turns out that
   * notifications do not arrive.
   */
  async listen(): Promise<void> {
    for (const [name, { listener, listensBy }] of this.#open) {
      await listener.open();
      void listener.hears().then((hears) => {
        if (hears !== false) return;
        this.#observe({ kind: "config.warning", path: listensBy, message: deafness(name) });
      });
    }
  }

  /**
   * Ends what a terminated cell left running. Never rejects: the server's own check of its clients has the
   * same effect later.
   */
  async terminateBackends(applicationName: string): Promise<void> {
    for (const [name, { database }] of this.#open) {
      try {
        await terminateBackends(database, applicationName);
      } catch (error) {
        if (error instanceof HostError && error.code === "SHUTTING_DOWN") return;
        if (error instanceof Error) this.#observe({ kind: "database.lost", database: name, error });
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all(
      [...this.#open.values()].flatMap(({ database, listener, migrations }) => [
        listener.close(),
        database.close(),
        migrations.close(),
      ]),
    );
  }
}

const listenPath = (name: string, { url, listenUrl }: DatabaseConfig): string =>
  `databases.${name}.${url === listenUrl ? "url" : "listenUrl"}`;

/** The effect of notifications that do not arrive, and the cure. */
const deafness = (name: string): string =>
  `notifications do not arrive (typical behind a transaction pooler), so changes of schemas and tenants are noticed late: set databases.${name}.listenUrl to a connection to PostgreSQL itself`;

/** Why `serve` could not start with a database's URL for LISTEN, or would receive nothing; null if all is well. */
export async function listenFault(
  name: string,
  config: DatabaseConfig,
  applicationName: string,
): Promise<{ readonly path: string; readonly message: string } | null> {
  const path = listenPath(name, config);
  const options = { name, url: config.listenUrl, applicationName, observe: () => undefined };
  let listener: Listener | undefined;
  try {
    listener = new Listener(options);
    await listener.open();
    return (await listener.hears()) === false ? { path, message: deafness(name) } : null;
  } catch (error) {
    // A fault of the shared URL is reported elsewhere, except a standby, which is a fault for LISTEN only.
    const isStandby = error instanceof HostError && error.code === "DATABASE_READ_ONLY";
    return config.listenUrl === config.url && !isStandby ? null : { path, message: messageOf(error) };
  } finally {
    await listener?.close();
  }
}

/** The state of the control schema, after installing what may be installed. */
async function control(
  database: Database,
  config: DatabaseConfig,
  { guard, observe, tenantTable, realtime = false }: DatabasesOptions,
): Promise<Pick<OpenDatabase, "control" | "eventTriggers">> {
  const needs = { tenants: tenantTable === database.name, realtime };
  const state = config.install
    ? await installControl(database, observe, needs)
    : await controlState(database, needs);
  const { version, expected, eventTriggers, missing } = state;
  if (version >= expected) {
    observe({
      kind: "database.statements",
      database: database.name,
      kept: keepsStatements(state),
      about: keepingText(state),
    });
    return { control: true, eventTriggers };
  }
  if (guard === "off" && !realtime) return { control: false, eventTriggers: false };
  throw new HostError(
    "CONFIG_INVALID",
    [
      `database ${database.name}: ${realtime ? "realtime" : `guard "${guard}"`} needs a usable control schema:`,
      ...missing,
      realtime ? "Or leave out realtime." : 'Or set guard to "off".',
    ].join("\n"),
  );
}
