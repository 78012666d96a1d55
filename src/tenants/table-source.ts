/** Tenants from the control table `rowhouse.tenant`, read on demand. */
import { LRUCache } from "lru-cache";
import { z } from "zod";
import type { Observe } from "../observability/observation.ts";
import { HostError, messageOf } from "../shared/kernel/errors.ts";
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import { parseTenantId, type TenantId } from "../shared/kernel/ids.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";
import { SingleFlight } from "../shared/kernel/single-flight.ts";
import { ConfigError } from "../validation/config-error.ts";
import { HostClaims } from "./host-claims.ts";
import { type Clock, KnownTenants } from "./record-cache.ts";
import type { TenantSource } from "./source.ts";
import type { Tenant, TenantDefaults } from "./tenant.ts";
import { parseLoneTenant } from "./token-conflicts.ts";

/** The channel on which the table's trigger names each tenant whose row changed. */
const tenantChannel = "rowhouse_tenant";

export interface TableSourceOptions {
  readonly database: { query(text: string, values: readonly unknown[]): Promise<{ rows: unknown[] }> };
  /** Opened by its owner after the source has been created. */
  readonly listener: {
    on(channel: string, handler: (payload: string) => void): void;
    onGap(handler: () => void): void;
  };
  /** `database` of the defaults is the database that holds the table. */
  readonly defaults: TenantDefaults;
  readonly observe: Observe;
  readonly clock?: Clock;
  /** Maximum number of tenants cached, and of names known to have no tenant. */
  readonly max?: number;
  /** A fallback for notifications that never arrive (a pooler in between, an unnoticed lost connection). */
  readonly maxAgeMs?: number;
  readonly unknownMaxAgeMs?: number;
}

const columns = "id, hosts, database, api, mode, schemas, shared_schemas, roles, settings, jwt, session";
const statements = {
  id: `select ${columns} from rowhouse.tenant where enabled and id = $1`,
  all: `select ${columns} from rowhouse.tenant where enabled order by id`,
};

const tableRow = z
  .looseObject({ id: z.string(), shared_schemas: z.unknown() })
  .transform(({ shared_schemas, ...record }) => ({ ...record, sharedSchemas: shared_schemas }));

/** Rereading ten thousand records takes 10 ms of the front. */
const restMs = 1_000;

class TableSource implements TenantSource {
  readonly resolve = null;
  readonly #options: TableSourceOptions;
  readonly #known: KnownTenants;
  /** Holds only hosts that were asked for: another tenant may own a host that a record claims. */
  readonly #hosts: LRUCache<string, TenantId>;
  readonly #claims: HostClaims;
  /** Separate from the tenants, so that a flood of made-up hosts cannot evict them. */
  readonly #unknown: LRUCache<string, true>;
  /** Keyed by epoch and name: a lookup after a change never joins a read from before it. */
  readonly #reading = new SingleFlight<string, Tenant | null>();
  /** Incremented at every reported change: what was read before must not be cached after. */
  #epoch = 0;
  #closed = false;
  /** Runs for a while after all records were marked for rereading. */
  #resting: NodeJS.Timeout | null = null;
  /** Whether another request to reread all records has come since. */
  #again = false;

  constructor(options: TableSourceOptions) {
    const {
      listener,
      clock = performance,
      max = 10_000,
      maxAgeMs = 300_000,
      unknownMaxAgeMs = 5_000,
    } = options;
    this.#options = options;
    this.#known = new KnownTenants({ max, maxAgeMs, clock });
    this.#hosts = new LRUCache(lazyLru(max));
    this.#claims = new HostClaims({
      rows: (text, values) => this.#rows(text, values),
      clock,
      maxAgeMs: unknownMaxAgeMs,
      contested: (message) => this.#warn("rowhouse.tenant.hosts", message),
    });
    this.#unknown = new LRUCache({ ...lazyLru(max), ttl: unknownMaxAgeMs, perf: clock, ttlResolution: 0 });
    listener.on(tenantChannel, (payload) => {
      const id = payload === "" ? null : parseTenantId(payload);
      if (id !== undefined) this.#suspect(id);
    });
    listener.onGap(() => this.#forget());
  }

  get known(): number {
    return this.#known.size;
  }

  byId(text: string): MaybePromise<Tenant | null> {
    const id = parseTenantId(text);
    if (id === undefined) return null;
    return this.#known.get(id) ?? this.#readId(id);
  }

  byHost(host: string): MaybePromise<Tenant | null> {
    const id = this.#hosts.get(host);
    const tenant = id === undefined ? undefined : this.#known.get(id);
    // The record may have been reread since and no longer claim the host.
    return tenant?.hosts.includes(host) ? tenant : this.#readHost(host);
  }

  async list(): Promise<readonly Tenant[]> {
    const rows = await this.#rows(statements.all, []);
    return rows.map((row) => this.#parse(row)).filter((tenant) => tenant !== null);
  }

  outdate(tenant: Tenant): void {
    // Many requests may report the same record; only the first marks it for rereading. A read in flight may
    // still be older.
    if (this.#known.outdate(tenant)) this.#epoch += 1;
  }

  onChange(listener: (tenant: TenantId | null) => void): void {
    this.#known.onChange(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#resting !== null) clearTimeout(this.#resting);
  }

  #readId(id: TenantId): Promise<Tenant | null> {
    const key = `id:${id}`;
    return this.#once(key, async (epoch) => {
      const [row] = await this.#rows(statements.id, [id]);
      const tenant = this.#parse(row);
      // A change was reported meanwhile: the answer is valid for those who asked before it, but must not be
      // cached.
      if (epoch !== this.#epoch) return tenant === null ? null : this.#known.like(tenant);
      if (tenant !== null) return this.#known.keep(tenant);
      this.#unknown.set(key, true);
      this.#known.lose(id);
      return null;
    });
  }

  #readHost(host: string): Promise<Tenant | null> {
    const key = `host:${host}`;
    return this.#once(key, async (epoch) => {
      const owner = await this.#claims.ownerOf(host, epoch);
      const tenant = owner === null ? null : await this.byId(owner);
      const found = tenant?.hosts.includes(host) ? tenant : null;
      if (epoch !== this.#epoch) return found;
      if (found === null) this.#unknown.set(key, true);
      else this.#hosts.set(host, found.id);
      return found;
    });
  }

  /** Runs `read` unless the name is known to have no tenant; once per epoch, however many wait. */
  #once(key: string, read: (epoch: number) => Promise<Tenant | null>): Promise<Tenant | null> {
    if (this.#unknown.get(key) !== undefined) return Promise.resolve(null);
    const epoch = this.#epoch;
    return this.#reading.run(`${epoch} ${key}`, () => read(epoch));
  }

  async #rows(text: string, values: readonly unknown[]): Promise<readonly unknown[]> {
    try {
      return (await this.#options.database.query(text, values)).rows;
    } catch (error) {
      if (error instanceof HostError) throw error;
      const message = `the control table cannot be read (${messageOf(error)}): run "rowhouse install", or grant SELECT to the connecting role`;
      throw new HostError("INTERNAL", message, { cause: error });
    }
  }

  /** The tenant in a row; null if there is no row, and with a warning if the row is invalid. */
  #parse(row: unknown): Tenant | null {
    if (row === undefined) return null;
    const record = tableRow.parse(row);
    try {
      return parseLoneTenant(record, this.#options.defaults);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const { path, message } of error.faults) {
        this.#warn(`rowhouse.tenant[${String(record.id)}].${path}`, message);
      }
      return null;
    }
  }

  /**
   * Marks the record of `id`, or all records, for rereading before the next use. Only an actual difference
   * then counts as a change: any function in the database may NOTIFY, and a new decision costs PostgreSQL 15
   * ms. Notifications for all records take effect once a second at most.
   */
  #suspect(id: TenantId | null): void {
    if (this.#closed) return;
    this.#epoch += 1;
    // The row may have claimed any name that had no tenant.
    this.#unknown.clear();
    if (id !== null) {
      this.#known.suspect(id);
    } else if (this.#resting === null) {
      this.#known.suspect(null);
      this.#rest();
    } else this.#again = true;
  }

  #rest(): void {
    this.#again = false;
    this.#resting = setTimeout(() => {
      this.#resting = null;
      if (this.#again) this.#suspect(null);
    }, restMs);
  }

  #forget(): void {
    if (this.#closed) return;
    this.#epoch += 1;
    this.#known.forget();
    this.#unknown.clear();
    this.#known.announce(null);
  }

  #warn(path: string, message: string): void {
    this.#options.observe({ kind: "config.warning", path, message });
  }
}

/** A source on the control table of `database`; the caller opens the listener, and closes both. */
export function tableSource(options: TableSourceOptions): TenantSource {
  return new TableSource(options);
}
