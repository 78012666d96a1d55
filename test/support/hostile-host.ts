/** A host to be attacked, and the state that attacks must leave unchanged. */
import { afterAll, beforeAll, expect, vi } from "vitest";
import { TestHost } from "./host.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  schemaOf,
  type TenantDatabase,
  type TenantRecord,
} from "./host-tenants.ts";
import { codeIn } from "./http.ts";

const ids = ["acme", "globex", "hooli"] as const;

interface Started {
  readonly database: TenantDatabase;
  readonly host: TestHost;
  readonly tenants: readonly TenantRecord[];
  readonly before: Untouched;
}

/** What no attack may change. */
export interface Untouched {
  /** Schemas, relations, functions, roles and their rights, as PostgreSQL stores them. */
  readonly catalogue: string;
  readonly rows: readonly unknown[];
  /** The tenants' keys, shapes and revisions as the admin listener reports them. */
  readonly tenants: readonly unknown[];
  /** Cells and their instances; an attack must never end one. */
  readonly cells: readonly unknown[];
  readonly ended: number;
  readonly pid: number;
}

interface Cell {
  readonly id: string;
  readonly phase: string;
  readonly inFlight: number;
  readonly instances: readonly { readonly key: string }[];
}

const catalogueQuery = `
select md5(string_agg(line, ',' order by line)) as catalogue from (
  select concat_ws(' ', 'schema', nspname, nspowner, nspacl::text) from pg_namespace where nspname !~ '^pg_(temp|toast)'
  union all
  select concat_ws(' ', 'relation', relnamespace, relname, relkind, relowner, relacl::text) from pg_class where relpersistence = 'p'
  union all
  select concat_ws(' ', 'function', pronamespace, proname, proowner, prosrc, proacl::text) from pg_proc
  union all
  select concat_ws(' ', 'column', attrelid, attname, atttypid, attisdropped) from pg_attribute join pg_class on pg_class.oid = attrelid where relpersistence = 'p'
) as lines (line)`;

export class HostileHost {
  #started: Started | null = null;

  get at(): Started {
    if (this.#started === null) throw new Error("not started");
    return this.#started;
  }

  async start(config: Record<string, unknown>): Promise<void> {
    const database = await createTenantDatabase("hostile");
    const tenants: TenantRecord[] = [];
    // The last one has another shape, and so another instance.
    for (const id of ids) {
      tenants.push(await database.tenant(id, id === "hooli" ? "create table more (id integer)" : ""));
    }
    const host = await TestHost.start({
      config: {
        databases: { main: { url: database.hostUrl, install: false } },
        tenants,
        pooling: true,
        ...config,
      },
      connected: database.connected,
    });
    const started = { database, host, tenants };
    try {
      // Repeated, because on a busy machine the first build may take longer than a test's requestTimeout.
      const served = async (id: (typeof ids)[number]): Promise<void> =>
        expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
      for (const id of ids) await vi.waitFor(() => served(id), { timeout: 60_000 });
      this.#started = { ...started, before: await look(started) };
    } catch (error) {
      await host.stop();
      await database.drop();
      throw error;
    }
  }

  /** Expects everything to be unchanged, and normal requests to get their own answers. */
  async assertUntouched(): Promise<void> {
    const { host, before } = this.at;
    for (const id of ids) expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
    expect(await look(this.at)).toEqual(before);
    // An INTERNAL error is our fault, and so is output that bypasses the log.
    expect(host.process.stderr).toBe("");
    expect(host.process.linesOf("request.failed").filter(({ code }) => code === "INTERNAL")).toEqual([]);
  }

  async stop(): Promise<void> {
    // Whatever did not start has been stopped by then.
    if (this.#started === null) return;
    const { host, database } = this.#started;
    await host.stop();
    await database.drop();
  }
}

/** The current state. */
export async function look({
  database,
  host,
  tenants,
}: {
  readonly database: TenantDatabase;
  readonly host: TestHost;
  readonly tenants: readonly { readonly id: string }[];
}): Promise<Untouched> {
  const [catalogue] = await database.query(catalogueQuery);
  const rows: unknown[] = [];
  for (const { id } of tenants) {
    rows.push(
      await database.query(
        `select count(*)::int as items, md5(string_agg(i::text, ',' order by id)) as content, (select count(*)::int from ${schemaOf(id)}.part) as parts from ${schemaOf(id)}.item i`,
      ),
    );
  }
  const { cells } = await host.adminJson("/status");
  return {
    catalogue: String(catalogue?.["catalogue"]),
    rows,
    // The time of the last check for changes always differs.
    tenants: await Promise.all(
      tenants.map(async ({ id }) => ({ ...(await host.adminJson(`/tenants/${id}`)), changes: null })),
    ),
    // A spare cell may still have been starting.
    cells: cells.flatMap(({ id, phase, inFlight, instances }: Cell) =>
      instances.length === 0 ? [] : [{ id, phase, inFlight, keys: instances.map(({ key }) => key) }],
    ),
    ended: host.process.linesOf("cell.terminated").length,
    pid: host.process.pid,
  };
}

/** To be called once, at the top of a test file; its last test is `assertUntouched`. */
export function hostileHost(config: Record<string, unknown> = {}): HostileHost {
  const hostile = new HostileHost();
  beforeAll(() => hostile.start(config));
  afterAll(() => hostile.stop());
  return hostile;
}

/** Status and code of each answer received over one connection. */
export function outcomes(received: string): string[] {
  return received.split(/(?=HTTP\/1\.1 \d{3} )/).map(outcome);
}

/** Status and code of a raw answer; `closed` if there was none. */
export function outcome(answer: string): string {
  const status = /^HTTP\/1\.1 (\d+)/.exec(answer)?.[1];
  if (status === undefined) return answer === "" ? "closed" : "no HTTP";
  const code = codeIn(answer);
  return code === undefined ? status : `${status} ${code}`;
}
