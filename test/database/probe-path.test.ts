import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { Decisions, type DecisionsOptions } from "../../src/decisions/decisions.ts";
import { probe, warmPlans } from "../../src/decisions/probe.ts";
import { Database } from "../../src/postgres/database.ts";
import type { GroupedStatement } from "../../src/postgres/group.ts";
import { finding, findingTexts } from "../../src/role-safety/finding.ts";
import { RoleSafety } from "../../src/role-safety/role-safety.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

let server: TestDatabase;
let database: Database;

beforeAll(async () => {
  server = await createDatabase("probe_path");
  database = new Database({
    name: "main",
    url: server.url,
    applicationName: "test",
    observe: () => undefined,
  });
});
afterAll(async () => {
  await database.close();
  await server.drop();
});

function decisionsOf(tenants: readonly Tenant[]): Decisions {
  const observe = () => undefined;
  const opened: DecisionsOptions["database"] = () => ({
    together: (statements) => database.together(statements),
    control: false,
  });
  return new Decisions({
    database: opened,
    pooling: true,
    guard: "off",
    presetVersion: "1",
    hostVersion: "1",
    safety: new RoleSafety({ mode: "warn", tenants: async () => tenants, database: opened, observe }),
    observe,
  });
}

const tenantOf = (id: string, roles: { anonymous: string }): Tenant =>
  parseTenant({ id, schemas: { app: id }, roles }, { database: "main", databases: ["main"] });

test("a user's operator in public is never run by the connecting role, and hides no finding about a role", async () => {
  const role = `${server.name}_role`;
  await server.execute(`
    create role ${role} nologin;
    create schema one; create table one.thing (id int primary key);
    alter table one.thing owner to ${role};
    create table public.called (as_whom text);
    create function public.equal(oid, regclass) returns boolean language plpgsql as
      $$ begin insert into public.called values (current_user); return false; end $$;
    create operator public.= (function = public.equal, leftarg = oid, rightarg = regclass);
    create function public.joined(text, bigint) returns text language plpgsql as
      $$ begin insert into public.called values (current_user); return ''; end $$;
    create operator public.|| (function = public.joined, leftarg = text, rightarg = bigint)`);
  try {
    const tenant = tenantOf("one", { anonymous: role });
    const { unsafe } = await decisionsOf([tenant]).decide(tenant);
    expect(unsafe).toContainEqual(finding("ROLE_OWNS_TABLES", { role, object: "1" }));
    expect(await server.query("select * from public.called")).toEqual([]);
    // Unqualified, these operators would be chosen.
    await server.query("select 1::oid = 'pg_class'::regclass, 'a'::text || 1::bigint");
    expect(await server.query("select * from public.called")).toHaveLength(2);
  } finally {
    await server.execute(`drop owned by ${role}; drop role ${role}`);
  }
});

test("plan warming prepares the statements that a probe runs", async () => {
  const front = new Database({
    name: "main",
    url: server.url,
    applicationName: "test",
    maxConnections: 1,
    observe: () => undefined,
  });
  try {
    const probed = {
      together: (statements: readonly GroupedStatement[]) => front.together(statements),
      control: false,
    };
    const prepared = async () =>
      (await front.query("select name, generic_plans::int as used from pg_prepared_statements order by 1"))
        .rows;
    await warmPlans(probed);
    const before = z.array(z.object({ name: z.string(), used: z.literal(1) })).parse(await prepared());
    expect(before).toHaveLength(4);
    await server.execute("create schema warmed; create table warmed.thing (id int primary key)");
    expect(await probe(probed, tenantOf("warmed", { anonymous: "nobody" }), true)).toMatchObject({
      findings: { own: [], reaching: [] },
    });
    expect(await prepared()).toEqual(before.map(({ name }) => ({ name, used: 2 })));
  } finally {
    await front.close();
  }
});

test("a session function that is called as a superuser is reported", async () => {
  const name = `${server.name}_boss`;
  await server.execute(`create role ${name} superuser; create schema asked`);
  try {
    const session = { function: "app.session", role: name };
    const record = { id: "asked", schemas: { app: "asked" }, roles: { anonymous: "nobody" }, session };
    const tenant = parseTenant(record, { database: "main", databases: ["main"] });
    const { unsafe } = await decisionsOf([tenant]).decide(tenant);
    expect(unsafe).toContainEqual(finding("SESSION_SUPERUSER", { role: name }));
  } finally {
    await server.execute(`drop role ${name}`);
  }
});

test("of a hundred tenants that share a role each gets a few findings, not a hundred", async () => {
  const role = `${server.name}_owner`;
  const ids = Array.from({ length: 100 }, (_, index) => `shop_${index}`);
  await server.execute(
    [`create role ${role}`, ...ids.map((id) => `create schema ${id} authorization ${role}`)].join("; "),
  );
  try {
    const tenants = ids.map((id) => tenantOf(id, { anonymous: role }));
    const decisions = decisionsOf(tenants);
    for (const tenant of tenants.slice(0, 2)) {
      const { unsafe } = await decisions.decide(tenant);
      expect(unsafe.filter(({ code }) => code === "FOREIGN_SCHEMA")).toHaveLength(5);
      expect(findingTexts(unsafe).at(-1)).toBe("and 94 more of this kind");
    }
  } finally {
    await server.execute(`drop owned by ${role} cascade; drop role ${role}`);
  }
});
