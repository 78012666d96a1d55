/** The serving adaptor on a small pool, without PostGraphile. Tenant `t` has schema and role `t` and a table `item`. */

import { tenantId } from "../../src/shared/kernel/ids.ts";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import { type ServingWithPgClient, servingAdaptor } from "../../workers/postgres/adaptor.ts";
import { TenantPool } from "../../workers/postgres/connection-pool.ts";
import { RequestScope, type RequestSettings } from "../../workers/request/request-scope.ts";
import { createDatabase, type TestDatabase } from "./database.ts";

export interface Request {
  readonly scope: RequestScope;
  readonly settings: RequestSettings;
  /** Whether the ledger says that something may have been committed. */
  readonly marked: () => boolean;
}

export interface AdaptorBench {
  readonly database: TestDatabase;
  readonly sessions: TenantPool;
  readonly withPgClient: ServingWithPgClient;
  request(tenant: string, more?: Partial<TenantBinding>): Request;
  /** The rows of one read. */
  read(request: Request, text: string, name?: string, values?: unknown[]): Promise<readonly unknown[]>;
  close(): Promise<void>;
}

/** By default without a reserve, so that anything one tenant leaves on a connection meets the next. */
export function adaptorOn(
  database: TestDatabase,
  poolSize = 1,
  resultBytes = 1_000_000,
  poolReserve = 0,
): AdaptorBench {
  const sessions = new TenantPool({
    url: database.url,
    poolSize,
    poolReserve,
    applicationName: "rowhouse:adaptor-test",
    resultBytes,
    statementTimeoutMs: 30_000,
    log: () => undefined,
  });
  const withPgClient = servingAdaptor(sessions);
  return {
    database,
    sessions,
    withPgClient,
    request(tenant, more) {
      const ledger = new Int8Array(new SharedArrayBuffer(1));
      const binding = {
        tenant: tenantId(tenant),
        searchPath: [tenant],
        statementTag: tenant,
        roles: [tenant],
        prepares: false,
        notifies: false,
        guard: null,
        ...more,
      };
      const scope = new RequestScope({
        slot: 0,
        binding,
        basePath: "",
        settings: { role: tenant },
        signing: null,
        ledger,
      });
      return { scope, settings: scope.settings, marked: () => ledger[0] === 1 };
    },
    async read(request, text, name, values = []) {
      const query = name === undefined ? { text, values } : { text, values, name };
      return (await withPgClient.single(request.settings, query)).rows;
    },
    close: () => sessions.close(),
  };
}

export async function adaptorDatabase(name: string, tenants: readonly string[]): Promise<TestDatabase> {
  const database = await createDatabase(name);
  for (const tenant of tenants) {
    await database.execute(`
      create schema ${tenant};
      do $$ begin create role ${tenant}; exception when duplicate_object or unique_violation then null; end $$;
      grant usage on schema ${tenant} to ${tenant};
      create table ${tenant}.item (id int primary key, name text);
      insert into ${tenant}.item values (1, '${tenant}');
      grant select, insert, update on ${tenant}.item to ${tenant};`);
  }
  return database;
}

/**
 * The same as after `rowhouse install`: `url` connects as a host's role, which is no superuser, but a member of every tenant's role;
 * statements are still run as superuser.
 */
export async function hostDatabase(name: string, tenants: readonly string[]): Promise<TestDatabase> {
  const own = await adaptorDatabase(name, tenants);
  const role = own.name;
  await own.execute(`create role ${role} login password 'word' in role ${tenants.join(", ")}`);
  return {
    ...own,
    url: own.urlAs(role, "word"),
    async drop() {
      await own.execute(`drop role ${role}`);
      await own.drop();
    },
  };
}
