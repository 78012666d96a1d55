import { makeIntrospectionQuery } from "pg-introspection";
import { afterAll, beforeAll, expect, it } from "vitest";
import { scopedIntrospection } from "../../workers/instance/introspection.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

const tenants = 40;

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("introspection_cost");
  for (let n = 0; n < tenants; n += 1) {
    await database.execute(`
      create role ${role(n)}; grant ${role(n)} to current_user;
      create schema s${n}; create type s${n}.mood as enum ('calm'); create domain s${n}.d as text check (value <> '');
      create table s${n}.a (id int primary key, m s${n}.mood, d s${n}.d check (d <> 'x'));
      create table s${n}.b (id int primary key, a_id int references s${n}.a);
      create function s${n}.f() returns int stable language sql as 'select 1';
      grant usage on schema s${n} to ${role(n)}; grant select on all tables in schema s${n} to ${role(n)};`);
  }
  await database.execute("analyze");
});
afterAll(() => database.drop());

const role = (n: number): string => `${database.name}_r${n}`;

type Plan = Readonly<Record<string, unknown>>;

/** The plan nodes of one tenant's introspection query, after `settings`. */
async function nodesOf(options: string, settings = ""): Promise<Plan[]> {
  const { text, values } = scopedIntrospection(makeIntrospectionQuery(), {
    schemas: [{ logical: "app", physical: "s7" }],
    sharedSchemas: ["public"],
  });
  await database.query("begin");
  try {
    if (settings !== "") await database.query(settings);
    const [row] = await database.query<{ "QUERY PLAN": unknown }>(`explain (${options}) ${text}`, values);
    return nodes(row?.["QUERY PLAN"]);
  } finally {
    await database.query("rollback");
  }
}

function nodes(value: unknown): Plan[] {
  if (Array.isArray(value)) return value.flatMap(nodes);
  if (!isPlan(value)) return [];
  const inner = Object.values(value).flatMap(nodes);
  return "Node Type" in value ? [value, ...inner] : inner;
}

function isPlan(value: unknown): value is Plan {
  return typeof value === "object" && value !== null;
}

it("an introspection query can read every catalogue that grows with the tenants by index alone", async () => {
  // A test's catalogues are so small that a scan may be cheaper: with scans disabled, only those without an alternative remain.
  const found = await nodesOf("format json", "set local enable_seqscan = off");
  const scanned = found
    .filter((node) => "Relation Name" in node && !("Index Cond" in node || "Recheck Cond" in node))
    .map((node) => node["Relation Name"]);
  // Superusers can only be found by reading all roles, which costs less than walking up from a member of many.
  expect([...new Set(scanned)].sort()).toEqual(["pg_am", "pg_authid", "pg_language"]);
});

/** How often each node of the plan looks up memberships. */
async function membershipLookups(grant = ""): Promise<number[]> {
  const found = await nodesOf("analyze, format json", grant);
  const loops = found
    .filter((node) => node["Relation Name"] === "pg_auth_members")
    .map((node) => Number(node["Actual Loops"]));
  expect(loops.length).toBeGreaterThan(1);
  return loops;
}

it("an introspection query looks up memberships only for the roles that have grants", async () => {
  expect(Math.max(...(await membershipLookups()))).toBeLessThan(tenants);
});

it("if every tenant's role has grants, memberships are looked up once for each role, not for each pair", async () => {
  const roles = Array.from({ length: tenants }, (_, n) => role(n));
  const loops = await membershipLookups(`grant usage on schema public to ${roles.join()}`);
  expect(Math.max(...loops)).toBeGreaterThanOrEqual(tenants);
  expect(Math.max(...loops)).toBeLessThan(2 * tenants);
});
