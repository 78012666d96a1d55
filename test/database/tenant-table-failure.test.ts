import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { createDatabase } from "../support/database.ts";
import { connect, tenantTable } from "../support/tenant-table.ts";

const table = tenantTable();

describe("a bad row", () => {
  it("makes its tenant unknown, with a warning that says where, and others are served", async () => {
    await table.test.execute(`
      alter table rowhouse.tenant disable trigger after_change;
      insert into rowhouse.tenant (id, database, schemas) values ('bad', 'nope', '["pg_catalog", ""]'), ('lost', 'nope', '["a"]');
      alter table rowhouse.tenant enable trigger after_change`);
    expect(await table.source.byId("bad")).toBeNull();
    expect(await table.source.byId("lost")).toBeNull();
    const warnings = table.seen.filter((each) => each.kind === "config.warning").map(({ path }) => path);
    expect(warnings).toEqual([
      "rowhouse.tenant[bad].schemas[0]",
      "rowhouse.tenant[bad].schemas[1]",
      "rowhouse.tenant[lost].database",
    ]);
    expect((await table.source.list()).map(({ id }) => id)).toEqual(["acme", "globex"]);
    expect(await table.source.byId("globex")).not.toBeNull();
  });

  it("that claims another's host in another spelling does not get it", async () => {
    await table.change(
      `insert into rowhouse.tenant (id, hosts, schemas) values ('rival', '{xn--bcher-kva.example}', '["r"]')`,
    );
    expect(await table.source.byHost("xn--bcher-kva.example")).toMatchObject({ id: "acme" });
    expect(table.seen).toContainEqual({
      kind: "config.warning",
      path: "rowhouse.tenant.hosts",
      message: expect.stringMatching(/acme and rival .* routed to acme/),
    });
    expect(await table.source.byHost("acme.example")).toMatchObject({ id: "acme" });
  });
});

describe("the connection", () => {
  it("that listens, once lost and restored, has every record read again", async () => {
    await Promise.all([table.source.byId("acme"), table.source.byId("globex")]);
    const told = once(table.events, "changed");
    await table.test.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and datname = current_database()",
      [table.listenerName],
    );
    await told;
    expect(table.changes).toEqual([null]);
    expect(table.source.known).toBe(0);
    expect(await table.source.byId("acme")).not.toBeNull();
    expect(table.asked).toHaveLength(3);
  });

  it("for lookups, once lost, fails them with DATABASE_UNREACHABLE", async () => {
    const away = connect("postgres://rowhouse@127.0.0.1:1/app");
    const cut = table.make(away);
    await expect(cut.byId("acme")).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
    await expect(cut.byHost("acme.example")).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
    await away.close();
  });

  it("to a database without the control table fails lookups with an error that says so", async () => {
    const bare = await createDatabase("bare");
    const other = connect(bare.url);
    const lookup = table.make(other).byId("acme");
    await expect(lookup).rejects.toMatchObject({
      code: "INTERNAL",
      message: expect.stringMatching(/control table/),
    });
    await other.close();
    await bare.drop();
  });
});
