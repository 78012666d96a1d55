import { escapeIdentifier as quote } from "pg";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  schemaOf,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";
import { type Names, unsafeCases } from "../support/unsafe-roles.ts";

let database: TenantDatabase;
let config: Record<string, unknown>;
let ada: TenantRecord;
let bob: TenantRecord;
let eve: TenantRecord;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("role_safety");
  ada = await database.tenant("ada");
  bob = await database.tenant("bob");
  eve = await database.tenant("eve");
  config = {
    databases: { main: { url: database.hostUrl, install: false } },
    tenants: [ada, bob, eve],
    pooling: true,
    roleSafety: "refuse",
  };
  host = await TestHost.start({ config, connected: database.connected });
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});

const role = (): string => quote(ada.roles.anonymous);
const schema = quote(schemaOf("ada"));
const names = (): Names => ({
  role: role(),
  schema,
  foreign: { role: quote(bob.roles.anonymous), schema: quote(schemaOf("bob")) },
  host: quote(new URL(database.hostUrl).username),
});

/** Makes the host decide anew, since no event trigger fires for changes of roles. */
const flush = (): Promise<unknown> => host.adminJson("/flush", {});

describe("with roleSafety refuse, a tenant whose role", () => {
  it.each(unsafeCases)(
    "$name is not served, and gets no details; another tenant is served",
    async ({ make, undo, says, all }) => {
      const served = async (): Promise<void> =>
        expect(await host.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
      await database.execute(make(names()));
      try {
        await flush();
        const toldOf = (kind: string) =>
          host.process.linesOf(kind).map(({ findings, refused, tenant }) => ({ findings, refused, tenant }));
        const [before, beforeAll] = [toldOf("tenant.unsafe").length, toldOf("database.unsafe").length];
        const answer = await host.graphql("ada", itemsQuery);
        expect(answer).toMatchObject({ status: 500, code: "ROLE_UNSAFE", data: undefined });
        expect(answer.text).not.toMatch(/superuser|policy|schema|function|canary/i);
        const told = (says: RegExp | undefined, tenant?: string): unknown[] =>
          says === undefined ? [] : [{ tenant, refused: true, findings: [expect.stringMatching(says)] }];
        // Another request at once costs no probe and logs nothing new.
        const reads = await host.metric("schema_reads_total");
        expect((await host.graphql("ada", itemsQuery)).code).toBe("ROLE_UNSAFE");
        expect(await host.metric("schema_reads_total")).toBe(reads);
        if (all === undefined) expect(await host.data("eve", itemsQuery)).toEqual(itemsOf("eve"));
        else expect((await host.graphql("eve", itemsQuery)).code).toBe("ROLE_UNSAFE");
        // A finding that concerns all tenants is logged once.
        expect(toldOf("tenant.unsafe").slice(before)).toEqual(told(says, "ada"));
        expect(toldOf("database.unsafe").slice(beforeAll)).toEqual(told(all));
      } finally {
        await database.execute(undo(names()));
      }
      await flush();
      await served();
    },
  );
});

describe("a tenant that was refused", () => {
  it("is served within seconds after its role is fixed, although nothing announces it", async () => {
    await database.execute(`alter role ${role()} bypassrls`);
    await flush();
    expect((await host.graphql("ada", itemsQuery)).code).toBe("ROLE_UNSAFE");
    await database.execute(`alter role ${role()} nobypassrls`);
    await vi.waitFor(async () => expect(await host.data("ada", itemsQuery)).toEqual(itemsOf("ada")), {
      timeout: 20_000,
      interval: 100,
    });
  });
});

describe("a tenant is safe with", () => {
  it.each([
    [
      "a schema of the tenant's own that is not served",
      "create schema canary_ada_private; grant usage on schema canary_ada_private to :role",
    ],
    [
      "a SECURITY DEFINER function with its own search path",
      `create function ${schema}.led() returns int language plpgsql stable security definer set search_path = pg_catalog as 'begin return 1; end'`,
    ],
    [
      "a SECURITY DEFINER function with a body in SQL standard form",
      `create function ${schema}.bound() returns int stable security definer return 1`,
    ],
    [
      "the right to read revisions",
      "grant usage on schema rowhouse to :role; grant select on rowhouse.schema_revision to :role",
    ],
    [
      "a view of its own tables, and a function that sets no more than a timeout",
      `create view ${schema}.shown as select * from ${schema}.item;
       create function ${schema}.led2() returns int language plpgsql set lock_timeout = 1 as 'begin set local statement_timeout = 9000; return 1; end'`,
    ],
  ])("%s", async (_, sql) => {
    await database.execute(sql.replaceAll(":role", role()));
    await flush();
    expect(await host.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
    expect(await host.adminJson("/tenants/ada")).not.toHaveProperty("unsafe");
  });
});

describe("with roleSafety", () => {
  it.each(["warn", "off"])("%s, an unsafe tenant is served; warn logs it, once", async (roleSafety) => {
    await database.execute(`alter role ${role()} bypassrls`);
    const other = await TestHost.start({ config: { ...config, roleSafety }, connected: database.connected });
    try {
      for (let round = 0; round < 3; round += 1) {
        expect(await other.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
        await other.adminJson("/flush", {});
      }
      expect(other.process.linesOf("tenant.unsafe")).toHaveLength(roleSafety === "warn" ? 1 : 0);
      const view = await other.adminJson("/tenants/ada");
      expect([view.unsafe, view.unsafeCodes]).toEqual(
        roleSafety === "warn"
          ? [[expect.stringMatching(/BYPASSRLS/)], ["ROLE_BYPASSRLS"]]
          : [undefined, undefined],
      );
      const counted = await other.metric('role_findings_total{code="ROLE_BYPASSRLS"}');
      expect(counted).toBe(roleSafety === "warn" ? 1 : Number.NaN);
    } finally {
      await other.stop();
      await database.execute(`alter role ${role()} nobypassrls`);
    }
  });
});

describe("SQL that reaches beyond its tenant", () => {
  const leak = `create view ${schema}.leak as select set_config('role', 'x', true) as role`;

  it("is accepted if the config lists it by logical schema and name, and nothing else is", async () => {
    await database.execute(leak);
    const accept = [`${Object.keys(ada.schemas)[0]}.leak`];
    const settings = { ...config, roleSafety: { mode: "refuse", accept } };
    const other = await TestHost.start({ config: settings, connected: database.connected });
    try {
      expect(await other.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
      expect(await other.adminJson("/tenants/ada")).not.toHaveProperty("unsafe");
      await database.execute(`alter view ${schema}.leak rename to leak2`);
      await other.adminJson("/flush", {});
      expect((await other.graphql("ada", itemsQuery)).code).toBe("ROLE_UNSAFE");
      const { path } = await directoryWith({ "host.json": JSON.stringify(settings) });
      const { stdout } = await runCli({ args: ["doctor", "--config", "host.json"], cwd: path });
      expect(stdout).toMatch(
        /^fail .*tenant ada: view canary_ada\.leak2 could reach beyond its tenant through set_config$/m,
      );
      const shown = await runCli({ args: ["shape", "ada", "--config", "host.json"], cwd: path });
      expect(shown.stdout).toMatch(
        /^unsafe +view canary_ada\.leak2 could reach beyond its tenant through set_config$/m,
      );
    } finally {
      await other.stop();
      await database.execute(`drop view if exists ${schema}.leak, ${schema}.leak2`);
    }
  });
});

describe("rowhouse doctor", () => {
  const examine = async (roleSafety: string) => {
    const { path } = await directoryWith({ "host.json": JSON.stringify({ ...config, roleSafety }) });
    return runCli({ args: ["doctor", "--config", "host.json"], cwd: path });
  };

  it("reports each tenant whose roles are unsafe, and fails if the config refuses them", async () => {
    await database.execute(`grant usage on schema ${quote(schemaOf("bob"))} to ${role()}`);
    const refused = await examine("refuse");
    const text = /tenant ada: its roles may use the schema canary_bob of tenant bob/;
    expect(refused.stdout).toMatch(new RegExp(`fail .*${text.source}`));
    expect(refused.code).toBe(1);
    expect((await examine("warn")).stdout).toMatch(new RegExp(`warn .*${text.source}`));
    await database.execute(`revoke usage on schema ${quote(schemaOf("bob"))} from ${role()}`);
    expect((await examine("refuse")).stdout).not.toMatch(/tenant ada/);
  });

  it("warns of the schemas that the connecting role itself may use, which are not a reason to refuse", async () => {
    const { host: connecting } = names();
    await database.execute(`grant usage on schema ${schema} to ${connecting}`);
    try {
      const { stdout } = await examine("refuse");
      expect(stdout).toMatch(/^warn .*may use schemas of tenants as itself: canary_ada \(/m);
      expect(stdout).not.toMatch(/^fail +database/m);
      await flush();
      expect(await host.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
    } finally {
      await database.execute(`revoke usage on schema ${schema} from ${connecting}`);
    }
    // Through a role whose rights it inherits; with inherit false, in PostgreSQL 16 and later, it has none.
    await database.execute(`grant ${role()} to ${connecting} with inherit true`);
    expect((await examine("warn")).stdout).toMatch(/^warn .*inherits the privileges of \S+:/m);
    await database.execute(`grant ${role()} to ${connecting} with inherit false`);
    expect((await examine("refuse")).stdout).not.toMatch(/as itself|inherits/);
  });

  it("reports a finding that concerns all tenants once, and fails for roles that the connecting role may assume", async () => {
    const cases = unsafeCases.filter(({ name }) => /a superuser$|^shares .* SECURITY/.test(name)).slice(1);
    expect(cases).toHaveLength(2);
    for (const { make } of cases) await database.execute(make(names()));
    const { stdout, code } = await examine("warn");
    for (const { undo } of cases) await database.execute(undo(names()));
    expect(
      stdout.match(/^fail .*: the connecting role \S+ is a member of canary_might, a superuser: /gm),
    ).toHaveLength(1);
    expect(stdout.match(/public\.misled\(\)/g)).toHaveLength(1);
    expect(stdout).not.toMatch(/tenant (ada|bob|eve):/);
    expect(code).toBe(1);
  });
});
