/** The configured databases, opened: the front's connections, the notifications, and what is known of the control schema. */
import type { DatabaseConfig } from "../config/config.ts";
import type { Observe } from "../observability/observation.ts";
import { cancelBackends, Database } from "../postgres/database.ts";
import { Listener } from "../postgres/listener.ts";
import { HostError, messageOf } from "../shared/kernel/errors.ts";
import { controlState, installControl } from "./install.ts";

export interface OpenDatabase {
  readonly database: Database;
  /** Made but not yet listening: handlers come first. */
  readonly listener: Listener;
  /** For migrations: each has a connection of its own. */
  readonly migrations: Database;
  /** Whether revisions are kept here. */
  readonly control: boolean;
  /** Whether event triggers moved them when it was opened. */
  readonly eventTriggers: boolean;
  /** Where it is configured by which URL it listens, such as `databases.main.listenUrl`. */
  readonly listensBy: string;
}

export interface DatabasesOptions {
  readonly databases: Readonly<Record<string, DatabaseConfig>>;
  readonly guard: "writes" | "all" | "off";
  readonly applicationName: string;
  readonly observe: Observe;
  /** The database whose table the tenants come from, if they come from one. */
  readonly tenantTable?: string | null;
  /** Most that run at once in each database; more wait. */
  readonly parallelMigrations?: number;
}

/**
 * Connections for the probes of tenants, a second one of which each tenant has to wait for. A view that is an enum's is read in one and may
 * take its time: two such tenants leave one for others, and a last connection is for what is asked for no tenant.
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
   * Connects to each database, and installs or upgrades its control schema where that is allowed. Throws
   * `DATABASE_UNREACHABLE`, and `CONFIG_INVALID` where the schema is needed and cannot be installed.
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
          // Whoever listened to the same server listens to a standby now.
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
    if (database === undefined) throw new HostError("INTERNAL", `no database is called ${name}`);
    return database;
  }

  get names(): readonly string[] {
    return [...this.#open.keys()];
  }

  /** Starts listening; to be called when every handler is in place. Where nothing arrives, that is said as soon as it is found out. */
  async listen(): Promise<void> {
    for (const [name, { listener, listensBy }] of this.#open) {
      await listener.open();
      void listener.hears().then((hears) => {
        if (hears !== false) return;
        this.#observe({ kind: "config.warning", path: listensBy, message: deafness(name) });
      });
    }
  }

  /** Ends what a terminated cell left running. Never rejects: the server's own check of its clients comes to the same. */
  async cancel(applicationName: string): Promise<void> {
    for (const [name, { database }] of this.#open) {
      try {
        await cancelBackends(database, applicationName);
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

/** What it means that nothing arrives which is notified, and the cure. */
const deafness = (name: string): string =>
  `notifications do not arrive, as behind a transaction pooler: changes of schemas and tenants are noticed late. Set databases.${name}.listenUrl to a connection to PostgreSQL itself`;

/** Why `serve` would not start by the URL that a database is listened to by, or would hear nothing; null where nothing is wrong. */
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
    // What is wrong with the URL for everything is told of that; a standby is for reading.
    const isStandby = error instanceof HostError && error.code === "DATABASE_READ_ONLY";
    return config.listenUrl === config.url && !isStandby ? null : { path, message: messageOf(error) };
  } finally {
    await listener?.close();
  }
}

/** What of the control schema is there, after installing what may be installed. */
async function control(
  database: Database,
  config: DatabaseConfig,
  { guard, observe, tenantTable }: DatabasesOptions,
): Promise<Pick<OpenDatabase, "control" | "eventTriggers">> {
  const needs = { tenants: tenantTable === database.name };
  const { version, expected, eventTriggers, missing } = config.install
    ? await installControl(database, observe, needs)
    : await controlState(database, needs);
  if (version >= expected) return { control: true, eventTriggers };
  if (guard === "off") return { control: false, eventTriggers: false };
  throw new HostError(
    "CONFIG_INVALID",
    [
      `database ${database.name}: guard "${guard}" needs the control schema, and there is none that could be used:`,
      ...missing,
      'Or set guard to "off".',
    ].join("\n"),
  );
}
