/** A cell's pool for tests of the pool itself. */
import type { CancellationToken } from "../../src/shared/kernel/cancellation.ts";
import type { Connection } from "../../workers/postgres/connection.ts";
import { TenantPool, type TenantPoolOptions } from "../../workers/postgres/connection-pool.ts";

export class OpenPool {
  readonly #pool: TenantPool;
  readonly #acquired = new Set<Connection>();

  constructor(options: Partial<TenantPoolOptions> & Pick<TenantPoolOptions, "url" | "poolSize">) {
    this.#pool = new TenantPool({
      poolReserve: 2,
      applicationName: "rowhouse:pool-test",
      resultBytes: 1_000_000,
      statementTimeoutMs: 30_000,
      log: () => undefined,
      ...options,
    });
  }

  get stats(): TenantPool["stats"] {
    return this.#pool.stats;
  }

  takeRenewals(): ReturnType<TenantPool["takeRenewals"]> {
    return this.#pool.takeRenewals();
  }

  async acquire(tenant: string, signal?: CancellationToken): Promise<Connection> {
    const connection = await this.#pool.acquire(signal, { tenant, prepares: false });
    this.#acquired.add(connection);
    return connection;
  }

  /** As many at once as the tenant may have, which are then open; returns their backends. */
  async openAll(tenant: string, count: number): Promise<Set<number | null>> {
    const all = await Promise.all(Array.from({ length: count }, () => this.acquire(tenant)));
    for (const connection of all) connection.release();
    return new Set(all.map(({ client }) => client.processID));
  }

  /** Closes it, with what a failed test has not returned: a pool waits for all its connections, and the test run would hang. */
  async close(): Promise<void> {
    const closing = this.#pool.close();
    for (const connection of this.#acquired) {
      if (connection.grant === null) continue;
      connection.cancel();
      connection.release();
    }
    await closing;
  }
}
