import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import { namespace } from "../../src/shared/postgres/statement-names.ts";
import type { TestDatabase } from "../support/database.ts";
import { guardOf, installGuard } from "../support/guard-control.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn } from "../support/worker-adaptor.ts";

/** One connection of a superuser for all tenants: names of prepared statements can be listed, and event triggers are there. */
let database: TestDatabase;
let bench: AdaptorBench;

const harmless = "create or replace function kea.hello() returns text language sql as $$ select 'hello' $$";
/** Puts a statement of its own in the place of each of tenants' that it finds. To forge the rollback, say, would only break its own connection. */
const forging = `
  create or replace function kea.hello() returns text language plpgsql as $$
  declare found record; forged int := 0;
  begin
    for found in select name from pg_prepared_statements where not from_sql and name like '%:%' loop
      execute format('deallocate %I', found.name);
      execute format('prepare %I as select ''forged'' as name', found.name);
      forged := forged + 1;
    end loop;
    return forged;
  end $$`;

beforeAll(async () => {
  database = await adaptorDatabase("kept", ["kea", "keb", "kec"]);
  await installGuard(database);
  await database.execute(`
    grant execute on function pg_catalog.pg_prepared_statement() to public;
    create function public.own_names() returns int language sql security definer set search_path = pg_catalog
      as $$ select count(*)::int from pg_prepared_statements where starts_with(name, '${namespace}') and name like '%:%' $$`);
});
beforeEach(async () => {
  await database.execute(harmless);
  bench = adaptorOn(database);
  return () => bench.close();
});
afterAll(() => database.drop());

const text = "select name from item where id = 1";
/** As the decision of now would bind the tenant. */
async function bindingOf(tenant: string, more: Partial<TenantBinding> = {}): Promise<Partial<TenantBinding>> {
  const guard = await guardOf(database, tenant);
  return {
    guard,
    statementTag: `${tenant} ${guard.revisions.join()}`,
    prepares: false,
    lists: false,
    ...more,
  };
}
const read = async (tenant: string, binding: Partial<TenantBinding>, query = text): Promise<unknown> =>
  (await bench.read(bench.request(tenant, binding), query, query))[0];
const write = async (tenant: string, binding: Partial<TenantBinding>) =>
  (
    await bench.withPgClient.singleWrite(bench.request(tenant, binding).settings, {
      text: "update item set name = name where id = 1 returning name",
    })
  ).rows[0];
const own = async (tenant: string, binding: Partial<TenantBinding>): Promise<unknown> =>
  read(tenant, binding, "select public.own_names() as own");

describe("where names can be listed, the next tenant's prepared statements", () => {
  const alternating = async (more: Partial<TenantBinding> = {}): Promise<unknown> => {
    const bindings = await Promise.all(["kea", "keb"].map((tenant) => bindingOf(tenant, more)));
    for (let round = 0; round < 4; round += 1) {
      for (const [at, tenant] of ["kea", "keb"].entries())
        expect(await read(tenant, bindings[at] ?? {})).toEqual({ name: tenant });
    }
    return own("keb", bindings[1] ?? {});
  };

  it("are kept between tenants whose SQL can neither list nor prepare any", async () => {
    expect(await alternating()).toEqual({ own: 2 });
  });

  it("take no round trip to be proved, and nothing else has to be parsed", async () => {
    const sent: string[] = [];
    const connection = await bench.sessions.acquire();
    const { stream } = connection.client.connection;
    const send = stream.write.bind(stream);
    stream.write = (chunk: Uint8Array) => {
      sent.push(Buffer.from(chunk).toString("latin1"));
      return send(chunk);
    };
    connection.release();
    await alternating();
    // Four rounds of two, and the one that counts.
    const groups = sent.slice(-5, -1);
    expect(sent).toHaveLength(9);
    expect(groups.map((group) => group.split("assert_revisions").length - 1)).toEqual([1, 1, 1, 1]);
    expect(groups.filter((group) => group.includes(text))).toEqual([]);
  });

  it.each<[string, Partial<TenantBinding>]>([
    ["could prepare statements", { prepares: true }],
    ["could list them", { lists: true }],
    ["have no revisions that would prove anything", { guard: null }],
  ])("are dropped if tenants %s", async (_, more) => {
    expect(await alternating(more)).toEqual({ own: 0 });
  });

  it("are dropped if one of the two could list them, before and after", async () => {
    const [kea, keb] = [await bindingOf("kea", { lists: true }), await bindingOf("keb")];
    for (let round = 0; round < 3; round += 1) await read("keb", keb);
    expect(await own("kea", kea)).toEqual({ own: 0 });
    for (let round = 0; round < 3; round += 1) await read("kea", kea);
    expect(await own("keb", keb)).toEqual({ own: 0 });
  });

  it("are dropped if transactions do not default to READ COMMITTED, which an assertion needs", async () => {
    const url = new URL(database.url);
    url.searchParams.set("options", "-c default_transaction_isolation=repeatable\\ read");
    await bench.close();
    bench = adaptorOn({ ...database, url: url.href });
    expect(await alternating()).toEqual({ own: 0 });
  });
});

describe("if a tenant's function becomes able to forge statements while its old decision still serves", () => {
  const prepared = async () => {
    const [kea, keb] = [await bindingOf("kea"), await bindingOf("keb")];
    for (let round = 0; round < 3; round += 1) {
      await read("keb", keb);
      await write("keb", keb);
      await read("kea", kea, "select hello() as said");
    }
    return { kea, keb };
  };
  let calls = 0;
  const forge = async (kea: Partial<TenantBinding>): Promise<void> => {
    await database.execute(forging);
    // The two of the next tenant, and its own.
    calls += 1;
    const forged = `forged_${calls}`;
    expect(await read("kea", kea, `select hello() as ${forged}`)).toEqual({ [forged]: "3" });
  };

  it.each([
    ["read", read],
    ["write", write],
  ] as const)("the next tenant's %s runs none of them", async (_, run) => {
    const { kea, keb } = await prepared();
    await forge(kea);
    expect(await run("keb", keb)).toEqual({ name: "keb" });
  });

  it("nor does a later one, if the next acquired the connection and sent nothing", async () => {
    const { kea, keb } = await prepared();
    await forge(kea);
    await bench.withPgClient(bench.request("kec", await bindingOf("kec")).settings, () => undefined);
    expect(await read("keb", keb)).toEqual({ name: "keb" });
  });

  it("nor if the function is as before by the time that the tenant has a new decision", async () => {
    const { kea, keb } = await prepared();
    await forge(kea);
    await database.execute(harmless);
    const renewed = await bindingOf("kea");
    await read("kea", renewed).catch(() => undefined);
    expect(await read("keb", keb)).toEqual({ name: "keb" });
  });

  it("and what was kept is given up, once", async () => {
    const { kea, keb } = await prepared();
    await forge(kea);
    await read("keb", keb);
    expect(await own("keb", keb)).toEqual({ own: 0 });
    const renewed = await bindingOf("kea");
    for (let round = 0; round < 3; round += 1) {
      await read("kea", renewed);
      await read("keb", keb);
    }
    // Both tenants' and the one that counts them.
    expect(await own("keb", keb)).toEqual({ own: 3 });
  });
});
