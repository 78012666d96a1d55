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

interface Case {
  readonly name: string;
  readonly make: () => string;
  readonly undo: () => string;
  readonly says: () => RegExp;
  /** It is wrong with every tenant. */
  readonly all?: true;
}

const cases: Case[] = [
  {
    name: "is a superuser",
    make: () => `alter role ${role()} superuser`,
    undo: () => `alter role ${role()} nosuperuser`,
    says: () => /^role \S+ is a superuser/,
  },
  {
    name: "passes all policies",
    make: () => `alter role ${role()} bypassrls`,
    undo: () => `alter role ${role()} nobypassrls`,
    says: () => /^role \S+ has BYPASSRLS/,
  },
  {
    name: "may become one that passes all policies",
    make: () => `create role canary_ada_helper bypassrls; grant canary_ada_helper to ${role()}`,
    undo: () => "drop role canary_ada_helper",
    says: () => /^role \S+ \(through canary_ada_helper\) has BYPASSRLS/,
  },
  {
    name: "may become PostgreSQL's own that reads everything",
    make: () => `grant pg_read_all_data to ${role()} with inherit false, set true`,
    undo: () => `revoke pg_read_all_data from ${role()}`,
    says: () => /^role \S+ may become pg_read_all_data, /,
  },
  {
    name: "owns a table of the tenant's",
    make: () => `alter table ${schema}.part owner to ${role()}`,
    undo: () => `alter table ${schema}.part owner to current_user`,
    says: () => /^role \S+ owns 1 of the tenant's tables/,
  },
  {
    name: "may create in a shared schema",
    make: () => `grant create on schema public to ${role()}`,
    undo: () => `revoke create on schema public from ${role()}`,
    says: () => /^role \S+ may create objects in the shared schema public$/,
  },
  {
    name: "may create in a shared schema because everyone may",
    make: () => "grant create on schema public to public",
    undo: () => "revoke create on schema public from public",
    all: true,
    says: () => /^role \S+ may create objects in the shared schema public$/,
  },
  {
    name: "may use another tenant's schema",
    make: () => `grant usage on schema ${quote(schemaOf("bob"))} to ${role()}`,
    undo: () => `revoke usage on schema ${quote(schemaOf("bob"))} from ${role()}`,
    says: () => /^its roles may use the schema canary_bob of tenant bob$/,
  },
  {
    name: "may become one that may use another tenant's schema",
    make: () => `grant ${quote(bob.roles.anonymous)} to ${role()} with inherit false, set true`,
    undo: () => `revoke ${quote(bob.roles.anonymous)} from ${role()}`,
    says: () => /^its roles may use the schema canary_bob of tenant bob$/,
  },
  {
    name: "is let in with everyone else",
    make: () => `grant usage on schema ${schema} to public`,
    undo: () => `revoke usage on schema ${schema} from public`,
    says: () => /^everyone may use the schema canary_ada/,
  },
  {
    name: "may call a SECURITY DEFINER function that its caller's path misleads",
    make: () =>
      `create function ${schema}.misled() returns int language plpgsql stable security definer as 'begin return 1; end'`,
    undo: () => `drop function ${schema}.misled()`,
    says: () => /^function canary_ada\.misled\(\) is SECURITY DEFINER without a search_path/,
  },
];

/** As after a change that no trigger sees: of roles there is none. */
const flush = (): Promise<unknown> => host.adminJson("/flush", {});

describe("with roleSafety refuse, a tenant whose role", () => {
  it.each(cases)(
    "$name is not served, and is told no more than that; its neighbour is",
    async ({ make, undo, says, all }) => {
      const served = async (): Promise<void> =>
        expect(await host.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
      await database.execute(make());
      try {
        await flush();
        const before = host.process.linesOf("tenant.unsafe").length;
        const answer = await host.graphql("ada", itemsQuery);
        expect(answer).toMatchObject({ status: 500, code: "ROLE_UNSAFE", data: undefined });
        expect(answer.text).not.toMatch(/superuser|policy|schema|function|canary/i);
        const told = host.process.linesOf("tenant.unsafe").slice(before);
        expect(told).toMatchObject([
          { tenant: "ada", refused: true, findings: [expect.stringMatching(says())] },
        ]);
        // Asked again at once, it costs no probe, and says nothing new.
        const reads = await host.metric("schema_reads_total");
        expect((await host.graphql("ada", itemsQuery)).code).toBe("ROLE_UNSAFE");
        expect(await host.metric("schema_reads_total")).toBe(reads);
        if (!all) expect(await host.data("eve", itemsQuery)).toEqual(itemsOf("eve"));
      } finally {
        await database.execute(undo());
      }
      await flush();
      await served();
    },
  );
});

describe("a tenant that was refused", () => {
  it("is served within seconds of its role's mending, though nothing tells of that", async () => {
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

describe("what is no fault", () => {
  it.each([
    [
      "a schema of the tenant's own that is not served",
      "create schema canary_ada_private; grant usage on schema canary_ada_private to :role",
    ],
    [
      "a SECURITY DEFINER function with a path of its own",
      `create function ${schema}.led() returns int language plpgsql stable security definer set search_path = pg_catalog as 'begin return 1; end'`,
    ],
    [
      "one whose body is bound when it is made",
      `create function ${schema}.bound() returns int stable security definer return 1`,
    ],
    [
      "a table that it owns under forced policies",
      `create table ${schema}.forced (id int); alter table ${schema}.forced owner to :role; alter table ${schema}.forced enable row level security, force row level security`,
    ],
  ])("%s", async (_, sql) => {
    await database.execute(sql.replaceAll(":role", role()));
    await flush();
    expect(await host.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
    expect(await host.adminJson("/tenants/ada")).not.toHaveProperty("unsafe");
  });
});

describe("with roleSafety", () => {
  it.each(["warn", "off"])("%s, an unsafe tenant is served; warn says so, once", async (roleSafety) => {
    await database.execute(`alter role ${role()} bypassrls`);
    const other = await TestHost.start({ config: { ...config, roleSafety }, connected: database.connected });
    try {
      for (let round = 0; round < 3; round += 1) {
        expect(await other.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
        await other.adminJson("/flush", {});
      }
      expect(other.process.linesOf("tenant.unsafe")).toHaveLength(roleSafety === "warn" ? 1 : 0);
      const view = await other.adminJson("/tenants/ada");
      expect(view.unsafe).toEqual(roleSafety === "warn" ? [expect.stringMatching(/BYPASSRLS/)] : undefined);
    } finally {
      await other.stop();
      await database.execute(`alter role ${role()} nobypassrls`);
    }
  });
});

describe("rowhouse doctor", () => {
  it("names each tenant whose roles are not safe, and fails where the config refuses them", async () => {
    await database.execute(`grant usage on schema ${quote(schemaOf("bob"))} to ${role()}`);
    const examine = async (roleSafety: string) => {
      const { path } = await directoryWith({ "host.json": JSON.stringify({ ...config, roleSafety }) });
      return runCli({ args: ["doctor", "--config", "host.json"], cwd: path });
    };
    const refused = await examine("refuse");
    const text = /tenant ada: its roles may use the schema canary_bob of tenant bob/;
    expect(refused.stdout).toMatch(new RegExp(`fail .*${text.source}`));
    expect(refused.code).toBe(1);
    expect((await examine("warn")).stdout).toMatch(new RegExp(`warn .*${text.source}`));
    await database.execute(`revoke usage on schema ${quote(schemaOf("bob"))} from ${role()}`);
    expect((await examine("refuse")).stdout).not.toMatch(/tenant ada/);
  });
});
