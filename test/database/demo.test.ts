import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { type Demo, demoPassword, seedDemo } from "../../src/demo/seed.ts";
import { parseShape, type ShapeProbe, shapeQuery } from "../../src/shape/shape.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";

const database = `demo_${randomBytes(5).toString("hex")}`;
const ignore = (): void => {};
let demo: Demo;
let tenants: Tenant[];
let host: Client;
let admin: Client;

beforeAll(async () => {
  demo = await seedDemo(inject("clusterUrl"), { tenants: 2, database, observe: ignore });
  tenants = demo.tenants.map((record) => parseTenant(record, { database: "main", databases: ["main"] }));
  host = await connect(demo.url);
  const url = new URL(inject("clusterUrl"));
  url.pathname = `/${database}`;
  admin = await connect(url.href);
});

afterAll(async () => {
  await host?.end();
  await admin?.end();
  const cluster = await connect(inject("clusterUrl"));
  await cluster.query(`drop database if exists ${database} with (force)`);
  await cluster.end();
});

/** As one request of the host would: in a transaction, as the tenant's role, under its path. */
async function as(tenant: Tenant, sql: string, values: unknown[] = [], claims: Record<string, string> = {}) {
  const role = "customer_id" in claims ? tenant.roles.authenticated : tenant.roles.anonymous;
  await host.query("begin");
  try {
    await host.query("select set_config('search_path', $1, true), set_config('role', $2, true)", [
      `${tenant.schemas[0]?.physical}, pg_temp`,
      role,
    ]);
    for (const [name, value] of Object.entries(claims)) {
      await host.query("select set_config($1, $2, true)", [`jwt.claims.${name}`, value]);
    }
    return (await host.query(sql, values)).rows;
  } finally {
    await host.query("rollback");
  }
}

const physical = (tenant: Tenant): string => tenant.schemas[0]?.physical ?? "";

function find(id: string): Tenant {
  const tenant = tenants.find((each) => each.id === id);
  if (tenant === undefined) throw new Error(`no tenant ${id}`);
  return tenant;
}

test("every tenant has its own data, and each name contains its tenant's id", async () => {
  for (const tenant of tenants) {
    const rows = await as(tenant, "select name from customers union all select name from products");
    expect(rows.length).toBeGreaterThan(8);
    for (const { name } of rows) expect(name.toLowerCase()).toContain(tenant.id);
  }
  const sums = new Set<string>();
  for (const tenant of tenants) {
    const { rows } = await admin.query(`select sum(unit_price) from ${physical(tenant)}.products`);
    sums.add(rows[0].sum);
  }
  expect(sums.size).toBe(tenants.length);
});

test("PostgreSQL itself refuses each tenant's role every other tenant's schema, and the host's own role all of them", async () => {
  for (const tenant of tenants) {
    await expect(host.query(`select from ${physical(tenant)}.products`)).rejects.toMatchObject({
      code: "42501",
    });
    for (const other of tenants) {
      if (other === tenant) continue;
      for (const claims of [{}, { customer_id: "1" }]) {
        await expect(as(tenant, `select from ${physical(other)}.products`, [], claims)).rejects.toMatchObject(
          {
            code: "42501",
          },
        );
      }
    }
  }
});

test("the host's role is no superuser, bypasses no policy, owns nothing and inherits nothing", async () => {
  const { rows } = await host.query(`
    select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb,
      (select count(*)::int from pg_class where relowner = r.oid) as owned,
      (select bool_or(inherit_option) from pg_auth_members where member = r.oid) as inherits
    from pg_roles r where rolname = current_user`);
  expect(rows).toEqual([
    {
      rolsuper: false,
      rolbypassrls: false,
      rolcreaterole: false,
      rolcreatedb: false,
      owned: 0,
      inherits: false,
    },
  ]);
  await host.query("select from rowhouse.schema_revision");
  await host.query("select from rowhouse.tenant");
  await expect(host.query("delete from rowhouse.tenant")).rejects.toMatchObject({ code: "42501" });
});

test("row-level security shows a private customer and their orders to that customer only", async () => {
  const tenant = find("globex");
  const seen =
    "select count(*)::int as customers, (select count(*)::int from orders) as orders from customers";
  const [anonymous] = await as(tenant, seen);
  const [grace] = (
    await admin.query(`select id from ${physical(tenant)}.customers where name like 'Grace %'`)
  ).rows;
  const [herself] = await as(tenant, seen, [], { customer_id: String(grace.id) });
  expect(anonymous.customers).toBe(4);
  expect(herself.customers).toBe(5);
  expect(herself.orders).toBeGreaterThan(anonymous.orders);
  expect(await as(tenant, "select name from current_customer()")).toEqual([{ name: null }]);
  expect(
    await as(tenant, "select name from current_customer()", [], { customer_id: String(grace.id) }),
  ).toEqual([{ name: "Grace of Globex" }]);
});

test("anybody may place an order, but only through the function", async () => {
  const tenant = find("acme");
  const [order] = await as(
    tenant,
    `with placed as (select * from place_order('New of Acme', 'new@acme.example', 2, 3)) select status, customer_id from placed`,
  );
  expect(order).toMatchObject({ status: "placed" });
  const [nothing] = await as(tenant, "select id from place_order('New of Acme', 'new@acme.example', 999, 1)");
  expect(nothing?.id ?? null).toBeNull();
  await expect(as(tenant, "insert into orders (customer_id) values (1)")).rejects.toMatchObject({
    code: "42501",
  });
  const [total] = await as(
    tenant,
    `select orders_total(o) = (select sum(quantity * unit_price) from order_items where order_id = o.id) as agrees
      from orders o limit 1`,
  );
  expect(total).toEqual({ agrees: true });
  const [count] = await as(tenant, "select sum(products_order_count(p))::int as ordered from products p");
  expect(count.ordered).toBeGreaterThan(10);
});

test("login returns a session for the right password and nothing for a wrong one; hashes are not readable", async () => {
  const tenant = find("initech");
  const login =
    "select role, customer_id, exp > extract(epoch from now()) as lasts from login('ada@initech.example', $1)";
  expect(await as(tenant, login, [demoPassword])).toEqual([
    { role: "initech_user", customer_id: 1, lasts: true },
  ]);
  expect(await as(tenant, login, ["wrong"])).toEqual([{ role: null, customer_id: null, lasts: null }]);
  await expect(as(tenant, "select from initech_private.account")).rejects.toMatchObject({ code: "42501" });
});

test("the first four and the numbered tenants share a shape, hooli has another, and stark has a hidden relation", async () => {
  const probes = new Map<string, ShapeProbe>();
  for (const tenant of tenants) {
    const { text, values } = shapeQuery(tenant, { revisions: true });
    await host.query("begin");
    probes.set(tenant.id, parseShape((await host.query(text, values)).rows[0]));
    await host.query("rollback");
  }
  const shape = (id: string): string | undefined => probes.get(id)?.shape;
  for (const id of ["globex", "initech", "umbrella", "t0001", "t0002"]) expect(shape(id)).toBe(shape("acme"));
  expect(shape("hooli")).not.toBe(shape("acme"));
  expect(shape("stark")).not.toBe(shape("acme"));
  for (const [id, { hidden, missing, revisions }] of probes) {
    expect(missing).toEqual([]);
    expect(hidden.length > 0).toBe(id === "stark");
    expect(Number(revisions[`${id}_app`])).toBeGreaterThan(0);
  }
  expect(probes.get("stark")?.hidden.join()).toContain("stark_app.pg_group");
});

test("seeding again keeps the data, adds what is new and leaves the URL as it was", async () => {
  await admin.query("update acme_app.products set name = 'Acme changed' where id = 1");
  const again = await seedDemo(inject("clusterUrl"), { tenants: 3, database, observe: ignore });
  expect(again.url).toBe(demo.url);
  expect(again.tenants.map(({ id }) => id)).toEqual([...demo.tenants.map(({ id }) => id), "t0003"]);
  expect(again.tenants.at(-1)).toMatchObject({ hosts: ["t0003.localhost"], schemas: { app: "t0003_app" } });
  expect((await admin.query("select name from acme_app.products where id = 1")).rows).toEqual([
    { name: "Acme changed" },
  ]);
  expect((await admin.query("select from t0003_app.products")).rows.length).toBeGreaterThan(0);
});

async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  client.on("error", ignore);
  await client.connect();
  return client;
}
