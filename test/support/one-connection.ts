/** Tests of the adaptor on a single connection: anything that one of them leaves behind meets the next request. */
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import type { TestDatabase } from "./database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn, type Request } from "./worker-adaptor.ts";

/** Queries the request's role and path, and its tenant's only row. */
export const state =
  "select current_user as role, current_setting('search_path') as path, name from item where id = 1";
export const ofAda = { role: "ada", path: "ada, pg_temp", name: "ada" };
export const ofBob = { role: "bob", path: "bob, pg_temp", name: "bob" };

/** Selects the bench's connections from `pg_stat_activity`. */
export const backends =
  "from pg_stat_activity where application_name = 'rowhouse:adaptor-test' and datname = current_database()";

export class OneConnection {
  readonly rejections: unknown[] = [];
  #database: TestDatabase | undefined;
  #bench: AdaptorBench | undefined;
  #request: Request | undefined;

  get database(): TestDatabase {
    return opened(this.#database);
  }

  get bench(): AdaptorBench {
    return opened(this.#bench);
  }

  /** The test's own request, for the tenant `ada`. */
  get request(): Request {
    return opened(this.#request);
  }

  async open(name: string): Promise<void> {
    this.#database = await adaptorDatabase(name, ["ada", "bob"]);
    this.#bench = adaptorOn(this.#database);
  }

  begin(): void {
    this.#request = this.bench.request("ada");
  }

  async lookAfter(): Promise<void> {
    expect(await this.bench.read(this.bench.request("bob"), state)).toEqual([ofBob]);
    expect(this.bench.sessions.stats).toMatchObject({ total: 1, waiting: 0 });
    expect(this.rejections).toEqual([]);
    await this.database.query("delete from ada.item where id > 1");
  }

  async close(): Promise<void> {
    await this.bench.close();
    await this.database.drop();
  }

  async ids(): Promise<number[]> {
    const rows = await this.database.query<{ id: number }>("select id from ada.item order by id");
    return rows.map(({ id }) => id);
  }

  /** The number of running statements that match `text`. */
  async running(text: string): Promise<number> {
    const sql = `select 1 ${backends} and state = 'active' and query like $1`;
    return (await this.database.query(sql, [`%${text}%`])).length;
  }

  async pid(): Promise<unknown> {
    return (await this.bench.read(this.request, "select pg_backend_pid() as pid"))[0];
  }

  inside<T>(work: (client: NodePostgresPgClient) => T | Promise<T>): Promise<T> {
    return this.bench.withPgClient(this.request.settings, work);
  }
}

export const insert = (id: number) => ({ text: "insert into item values ($1, 'x')", values: [id] });

function opened<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error("not open");
  return value;
}

/** To be called once, at the top of a test file. */
export function oneConnection(name: string): OneConnection {
  const one = new OneConnection();
  const onRejection = (reason: unknown): void => void one.rejections.push(reason);
  beforeAll(async () => {
    process.on("unhandledRejection", onRejection);
    await one.open(name);
  });
  beforeEach(() => one.begin());
  afterEach(() => one.lookAfter());
  afterAll(async () => {
    process.off("unhandledRejection", onRejection);
    await one.close();
  });
  return one;
}
