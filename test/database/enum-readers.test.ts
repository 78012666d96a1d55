import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Decision, decisionOf } from "../../src/decisions/decision.ts";
import { probe } from "../../src/decisions/probe.ts";
import { Database } from "../../src/postgres/database.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { Worker } from "../support/worker-instance.ts";

/** The host's login is a member of the tenant's roles, and has no rights of its own on their objects. */
const run = randomBytes(3).toString("hex");
const login = `enum_login_${run}`;
const roles = {
  anonymous: `enum_anon_${run}`,
  authenticated: `enum_user_${run}`,
  others: [`enum_staff_${run}`],
};
const names = [roles.anonymous, roles.authenticated, ...roles.others];
const inRoles = (sql: string): string =>
  sql
    .replaceAll(":anon", roles.anonymous)
    .replaceAll(":user", roles.authenticated)
    .replaceAll(":staff", String(roles.others[0]))
    .replaceAll(":login", login);

let database: TestDatabase;
let front: Database;
let worker: Worker;

const tenant = (schema: string): Tenant =>
  parseTenant({ id: schema, schemas: { app: schema }, roles }, { database: "main", databases: ["main"] });

/** A table of kinds that becomes an enum, and one that refers to it. */
const kindsOf = (schema: string, more: string): string => `
  create schema ${schema}; grant usage on schema ${schema} to :anon, :user, :staff;
  create table ${schema}.kind (name text primary key, description text);
  comment on table ${schema}.kind is '@enum';
  insert into ${schema}.kind values ('b', 'Second'), ('a', 'First');
  create table ${schema}.thing (id int primary key, kind text references ${schema}.kind);
  grant select on ${schema}.thing to :anon;
  ${more.replaceAll("%", schema)}`;

const decided = async (schema: string): Promise<Decision> => {
  const rules = { pooling: true, presetVersion: "1", hostVersion: "1", guard: "off" } as const;
  const probed = await probe(
    { together: (all) => front.together(all), control: false },
    tenant(schema),
    false,
  );
  return decisionOf(tenant(schema), probed, rules, { unshareable: () => undefined });
};

/** The values of the enum in a build for that decision, or the error with which it failed. */
const built = async ({ spec }: Decision, type = "Kind"): Promise<unknown> => {
  const schemas = Object.fromEntries(spec.schemas.map(({ logical, physical }) => [logical, physical]));
  const made = await worker.build(spec.kind, schemas, spec).catch((error: Error) => error);
  if (made instanceof Error) return made;
  const { json } = await worker.ask(made, {
    tenant: spec.tenant,
    roles: names,
    settings: { role: roles.anonymous },
    query: `{ __type(name: "${type}") { enumValues { name description } } }`,
  });
  return json.data.__type?.enumValues.map((value: { name: string }) => value.name);
};

beforeAll(async () => {
  database = await createDatabase("enum_readers");
  await database.execute(
    inRoles(`create role :login login noinherit password 'word';
      create role :anon; create role :user; create role :staff; grant :anon, :user, :staff to :login`),
  );
  const url = database.urlAs(login, "word");
  front = new Database({
    name: "main",
    url,
    applicationName: "test",
    observe: () => undefined,
    maxConnections: 1,
  });
  worker = new Worker(database, { url });
});
afterAll(async () => {
  await front.close();
  await database.execute(inRoles("drop owned by :login, :anon, :user, :staff cascade"));
  await database.drop();
});

const readable: [law: string, more: string, values?: readonly string[]][] = [
  ["to every role", "grant select on %.kind to :anon, :user, :staff"],
  ["to the anonymous role alone", "grant select on %.kind to :anon"],
  ["to the authenticated role alone", "grant select on %.kind to :user"],
  ["to one of the others alone", "grant select on %.kind to :staff"],
  ["by its columns", "grant select (name, description) on %.kind to :user"],
  [
    "to one role by one column, and to another by all",
    "grant select (name) on %.kind to :anon; grant select on %.kind to :user",
  ],
  [
    "to a role without its schema, and to another with it",
    "grant select on %.kind to :anon, :user; revoke usage on schema % from :anon",
  ],
  ["to everyone", "grant select on %.kind to public"],
  [
    "to all roles, under a policy that shows each of them all of it",
    "grant select on %.kind to :anon, :user; alter table %.kind enable row level security; create policy all_of_it on %.kind using (true)",
  ],
  [
    "to the connecting role, while policies hide them from the tenant's roles",
    `grant usage on schema % to :login; grant select on %.kind to :login, :anon, :user;
     alter table %.kind enable row level security; create policy its on %.kind to :login using (true); create policy anons on %.kind to :anon using (false)`,
  ],
  [
    "as one row, by a policy that is the same for all roles",
    "grant select on %.kind to :anon, :user; alter table %.kind enable row level security; create policy few on %.kind using (name = 'a')",
    ["a"],
  ],
  [
    "in a different order for each role",
    `grant select on %.kind to :anon, :user; alter table %.thing drop constraint thing_kind_fkey; alter table %.kind rename to stored; comment on table %.stored is null;
     grant select on %.stored to :anon, :user;
     create view %.kind as select name, description from %.stored order by case when current_user = ':anon' then name end desc, name;
     comment on view %.kind is E'@enum\\n@primaryKey name'; grant select on %.kind to :anon, :user;
     comment on table %.thing is '@foreignKey (kind) references kind (name)'`,
  ],
  [
    "with characters that are invalid in XML",
    String.raw`grant select on %.kind to :anon, :user; update %.kind set description = E'<row>\x01</table> & "all"' where name = 'a'`,
  ],
];

describe("the rows of an enum table, readable", () => {
  let schema = "";
  beforeEach(() => {
    schema = `enum_${randomBytes(4).toString("hex")}`;
    return () => database.execute(`drop schema if exists ${schema} cascade`);
  });

  it.each(readable)(
    "%s, become the enum's values in a shape that can be shared",
    async (_, more, values = ["b", "a"]) => {
      await database.execute(inRoles(kindsOf(schema, more)));
      const decision = await decided(schema);
      expect(decision.spec.enumFault).toBeNull();
      expect(decision.kind).toBe("pooled");
      expect(await built(decision)).toEqual(values);
    },
  );

  it("by a tenant's role, change the shape when they change", async () => {
    await database.execute(inRoles(kindsOf(schema, "grant select on %.kind to :user")));
    const before = await decided(schema);
    await database.execute(`insert into ${schema}.kind values ('c', 'Third')`);
    const after = await decided(schema);
    expect(after.shape).not.toBe(before.shape);
    expect(await built(after)).toEqual(["b", "a", "c"]);
  });

  it("by a different role for each table, are all read", async () => {
    await database.execute(
      inRoles(
        kindsOf(
          schema,
          `grant select on %.kind to :user;
           create table %.unit (code text primary key); comment on table %.unit is '@enum'; insert into %.unit values ('kg');
           create table %.load (id int primary key, unit text references %.unit); grant select on %.unit to :staff; grant select on %.load to :anon`,
        ),
      ),
    );
    const decision = await decided(schema);
    expect(await built(decision)).toEqual(["b", "a"]);
    expect(await built(decision, "Unit")).toEqual(["kg"]);
  });

  it("by nobody, fail the build with the table's name and the grant to issue", async () => {
    await database.execute(inRoles(kindsOf(schema, "")));
    const decision = await decided(schema);
    expect(await built(decision)).toMatchObject({
      code: "BUILD_FAILED",
      message: `no role may read the rows of the enum table ${schema}.kind: grant select (name, description) on ${schema}.kind, and usage on its schema, to ${roles.anonymous}`,
    });
    await database.execute(inRoles(`grant select (name, description) on ${schema}.kind to :anon`));
    expect(await built(await decided(schema))).toEqual(["b", "a"]);
  });

  it.each([
    [
      "by a policy",
      "alter table %.kind enable row level security; create policy users on %.kind to :user using (true)",
    ],
    [
      "by a view that depends on the current role",
      `alter table %.thing drop constraint thing_kind_fkey; alter table %.kind rename to stored; comment on table %.stored is null;
       create view %.kind as select name, description from %.stored where current_user <> ':anon' or name = 'a';
       comment on view %.kind is E'@enum\\n@primaryKey name'`,
    ],
  ])("but different for each role %s, fail the build, and the error says so", async (_, more) => {
    await database.execute(inRoles(kindsOf(schema, `${more}; grant select on %.kind to :anon, :user`)));
    const error = await built(await decided(schema));
    expect(error).toMatchObject({ code: "BUILD_FAILED" });
    expect(String(error)).toContain(
      `the rows of the enum table ${schema}.kind differ between roles (${names.join(", ")})`,
    );
  });

  it("only by a role that the host may not assume, count as unreadable", async () => {
    const stranger = `enum_stranger_${run}`;
    await database.execute(
      inRoles(
        `${kindsOf(schema, `create role ${stranger}; grant usage on schema % to ${stranger}; grant select on %.kind to ${stranger}`)}`,
      ),
    );
    const strange = parseTenant(
      { id: schema, schemas: { app: schema }, roles: { anonymous: stranger } },
      { database: "main", databases: ["main"] },
    );
    const { shape } = await probe({ together: (all) => front.together(all), control: false }, strange, false);
    expect(shape.enumFaults).toMatchObject([{ table: `${schema}.kind`, readable: false }]);
    await database.execute(`drop owned by ${stranger} cascade; drop role ${stranger}`);
  });

  it("do not affect later parts of the probe, even if a view's function changes the role or a setting", async () => {
    const view = (does: string): string => `
      create function %.who() returns text language plpgsql volatile as $$ begin ${does}; return 'a'; end $$;
      create view %.made as select %.who() as name; comment on view %.made is E'@enum\\n@primaryKey name'; grant select on %.made to :anon;
      create table %.note (id int primary key, made text); comment on table %.note is '@foreignKey (made) references made (name)';
      grant select on %.note to :anon`;
    await database.execute(
      inRoles(
        kindsOf(
          schema,
          `grant select on %.kind to :user; ${view("perform set_config('role', ':staff', true)")}`,
        ),
      ),
    );
    const tricky = await decided(schema);
    expect([tricky.spec.enumFault, await built(tricky), await built(tricky, "Made")]).toEqual([
      null,
      ["b", "a"],
      ["a"],
    ]);
    await database.execute(`drop schema ${schema} cascade`);
    await database.execute(
      inRoles(
        kindsOf(schema, `grant select on %.kind to :user; ${view("perform set_config('x.y', 'z', true)")}`),
      ),
    );
    expect((await decided(schema)).shape).toBe(tricky.shape);
  });
});
