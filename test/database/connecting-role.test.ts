import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { Decisions, type DecisionsOptions } from "../../src/decisions/decisions.ts";
import { Database } from "../../src/postgres/database.ts";
import { findingTexts } from "../../src/role-safety/finding.ts";
import { RoleSafety, type RoleSafetyOptions } from "../../src/role-safety/role-safety.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

let server: TestDatabase;
let database: Database;
let names: { readonly host: string; readonly role: string; readonly might: string };
let tenants: readonly Tenant[];

/** The host is a member of a role with BYPASSRLS, through the role of tenant "one" only. */
beforeAll(async () => {
  server = await createDatabase("connecting_role");
  database = new Database({
    name: "main",
    url: server.url,
    applicationName: "test",
    observe: () => undefined,
  });
  names = { host: `${server.name}_host`, role: `${server.name}_role`, might: `${server.name}_might` };
  const { host, role, might } = names;
  await server.execute(`
    create role ${might} bypassrls; create role ${role}; create role ${host};
    grant ${might} to ${role}; grant ${role} to ${host};
    ${["one", "two", "three", "four"].map((id) => `create schema ${id}; create table ${id}.thing (id int primary key)`).join("; ")}`);
  tenants = ["one", "two", "three", "four"].map((id) =>
    parseTenant(
      { id, schemas: { app: id }, roles: { anonymous: id === "one" ? role : host } },
      { database: "main", databases: ["main"] },
    ),
  );
});
afterEach(() => vi.restoreAllMocks());
afterAll(async () => {
  await database.close();
  const { host, role, might } = names;
  await server.execute(`drop role ${host}; drop role ${role}; drop role ${might}`);
  await server.drop();
});

/** The decisions of a host that connects as `user`. */
function decisionsAs(
  user: string | null,
  { mode, tenants: list }: Pick<RoleSafetyOptions, "mode" | "tenants">,
): { readonly decisions: Decisions; readonly told: () => readonly string[] } {
  const told: string[] = [];
  const observe: RoleSafetyOptions["observe"] = (observation) => {
    if (observation.kind === "database.unsafe") told.push(...observation.findings);
  };
  const opened: DecisionsOptions["database"] = () => ({
    together: async (statements) => {
      if (user === null) return database.together(statements);
      const [, ...rows] = await database.together([
        { text: `set local session authorization ${user}` },
        ...statements,
      ]);
      return rows;
    },
    control: false,
  });
  const decisions = new Decisions({
    database: opened,
    pooling: true,
    guard: "off",
    presetVersion: "1",
    hostVersion: "1",
    safety: new RoleSafety({ mode, tenants: list, database: opened, observe }),
    observe,
  });
  return { decisions, told: () => told };
}

function tenantAt(index: number): Tenant {
  const tenant = tenants[index];
  if (tenant === undefined) throw new Error("there is no such tenant");
  return tenant;
}

const failing = () => vi.fn(() => Promise.reject(new Error("the source does not answer")));
const listing = () => vi.fn(async () => tenants);
const member = /^the connecting role \S+_host is a member of \S+_might, which has BYPASSRLS: /;

test("if unsafe roles only cause warnings, a failing tenant source does not fail a tenant", async () => {
  const list = failing();
  const { decisions, told } = decisionsAs(names.host, { mode: "warn", tenants: list });
  const { unsafe } = await decisions.decide(tenantAt(0));
  expect(list).toHaveBeenCalled();
  // Without the list nothing can be left out: better to report too much than too little.
  expect(findingTexts(unsafe)).toContainEqual(expect.stringMatching(member));
  expect(told()).toEqual([expect.stringMatching(member)]);
});

test("if unsafe roles are refused, a failing tenant source fails the tenant", async () => {
  const { decisions } = decisionsAs(names.host, { mode: "refuse", tenants: failing() });
  await expect(decisions.decide(tenantAt(0))).rejects.toThrow("the source does not answer");
});

test.each(["warn", "refuse"] as const)(
  "with %s, a superuser is reported without asking for the list of tenants",
  async (mode) => {
    const list = failing();
    const { decisions, told } = decisionsAs(null, { mode, tenants: list });
    const decided = decisions.decide(tenantAt(0));
    if (mode === "warn") await decided;
    else await expect(decided).rejects.toMatchObject({ code: "ROLE_UNSAFE" });
    expect(told()).toEqual([expect.stringMatching(/^the connecting role \S+ is a superuser: /)]);
    expect(list).not.toHaveBeenCalled();
  },
);

test("the list of tenants is asked for once a minute, however often the connecting role is examined", async () => {
  const list = listing();
  const { decisions, told } = decisionsAs(names.host, { mode: "warn", tenants: list });
  const transaction = vi.spyOn(database, "transaction");
  const now = performance.now.bind(performance);
  const decideAt = async (index: number, laterMs: number): Promise<number> => {
    vi.spyOn(performance, "now").mockImplementation(() => now() + laterMs);
    transaction.mockClear();
    await decisions.decide(tenantAt(index));
    return transaction.mock.calls.length;
  };
  const counts = [await decideAt(0, 0), await decideAt(1, 6_000), await decideAt(2, 12_000)];
  // The role itself is examined anew each time.
  expect(new Set(counts).size).toBe(1);
  expect(list).toHaveBeenCalledTimes(1);
  await decideAt(3, 80_000);
  expect(list).toHaveBeenCalledTimes(2);
  // With the list, what a tenant's own role may do is that tenant's finding.
  expect(told()).toEqual([]);
});
