import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { tenantTable } from "../support/tenant-table.ts";

const table = tenantTable();

describe("a tenant in the control table", () => {
  it("is found by its id and by each of its hosts, with its full record", async () => {
    const acme = await table.source.byId("acme");
    expect(acme).toEqual({
      id: "acme",
      hosts: ["acme.example", "xn--bcher-kva.example"],
      database: "main",
      api: null,
      mode: null,
      schemas: [
        { logical: "z", physical: "acme_z" },
        { logical: "acme_a", physical: "acme_a" },
      ],
      sharedSchemas: ["public"],
      roles: { anonymous: "acme_anonymous", authenticated: null, others: [] },
      settings: { beta: true },
      jwt: null,
      session: null,
      realtime: true,
    });
    expect(await table.make().byHost("xn--bcher-kva.example")).toEqual(acme);
    expect(await table.source.byHost("globex.example")).toMatchObject({ id: "globex" });
  });

  it("has its token rules, and is unknown if another tenant's tokens might be accepted as its own", async () => {
    const secret = "a secret of the test's, long enough";
    const set = async (jwt: object): Promise<void> => {
      const text = JSON.stringify({ secret, ...jwt }).replaceAll("'", "''");
      await table.change(`update rowhouse.tenant set jwt = '${text}' where id = 'acme'`);
    };
    await set({});
    expect(await table.source.byId("acme")).toMatchObject({
      jwt: { key: { kind: "secret", secret }, audience: ["acme"] },
      session: null,
    });
    await set({ audience: "shared" });
    expect(await table.source.byId("acme")).toBeNull();
    expect(table.seen).toContainEqual(
      expect.objectContaining({ kind: "config.warning", path: "rowhouse.tenant[acme].jwt.audience" }),
    );
    expect(JSON.stringify(table.seen)).not.toContain(secret);
    await set({ audience: "https://api.example", tenantClaim: "org" });
    expect(await table.source.byId("acme")).toMatchObject({ jwt: { tenantClaim: "org" } });
    await table.change(
      `update rowhouse.tenant set jwt = null, session = '{"function": "z.authenticate"}' where id = 'acme'`,
    );
    expect(await table.source.byId("acme")).toMatchObject({
      jwt: null,
      session: { schema: "acme_z", function: "authenticate", own: true },
    });
  });

  it("is loaded once per name, and is the same object for every name", async () => {
    const first = await table.source.byHost("acme.example");
    expect(await table.source.byId("acme")).toBe(first);
    expect(await table.source.byHost("xn--bcher-kva.example")).toBe(first);
    expect(table.asked).toEqual(["acme.example", "acme", "xn--bcher-kva.example"]);
    expect(table.source.known).toBe(1);
  });

  it("is read once for concurrent requests", async () => {
    const release = table.hold();
    const both = Promise.all([table.source.byId("acme"), table.source.byId("acme")]);
    await once(table.events, "answered");
    release();
    const [one, other] = await both;
    expect(one).toBe(other);
    expect(table.asked).toEqual(["acme"]);
  });

  it("is read again after a change, which is announced first", async () => {
    const before = await table.source.byHost("globex.example");
    await table.change("update rowhouse.tenant set api = 'v2' where id = 'globex'");
    const after = await table.source.byHost("globex.example");
    expect(table.changes).toEqual(["globex"]);
    expect([before?.api, after?.api]).toEqual([null, "v2"]);
  });

  it.each(["acme", ""])(
    "of which %j is notified falsely is read again, and remains the same object",
    async (said) => {
      const acme = await table.source.byId("acme");
      for (let round = 1; round <= 3; round += 1) {
        // The second and third notice of everything come too soon to take effect at once.
        await table.change(`select pg_notify('rowhouse_tenant', '${said}')`);
        expect(await table.source.byId("acme")).toBe(acme);
        expect(table.asked).toHaveLength(said === "" ? 2 : 1 + round);
      }
      expect(table.changes).toEqual([]);
    },
  );

  it("remains the same object while false notices overtake each reading of it", async () => {
    const acme = await table.source.byId("acme");
    for (let round = 0; round < 3; round += 1) {
      await table.change("select pg_notify('rowhouse_tenant', 'acme')");
      const release = table.hold();
      const reading = table.source.byId("acme");
      await once(table.events, "answered");
      await table.change("select pg_notify('rowhouse_tenant', 'acme')");
      release();
      expect(await reading).toBe(acme);
    }
    expect(table.changes).toEqual([]);
  });

  it("is not read again after a notice of an impossible id", async () => {
    await table.source.byId("acme");
    await table.change("select pg_notify('rowhouse_tenant', 'no tenant''s; id')");
    await table.source.byId("acme");
    expect(table.asked).toHaveLength(1);
  });

  it("is read again, once, after requests found it outdated, and remains the same object if it has not changed", async () => {
    const acme = await table.source.byHost("acme.example");
    if (acme === null) throw new Error("there is no acme");
    for (let finder = 0; finder < 3; finder += 1) table.source.outdate(acme);
    expect(
      await Promise.all([table.source.byHost("acme.example"), table.source.byHost("acme.example")]),
    ).toEqual([acme, acme]);
    expect(await table.source.byId("acme")).toBe(acme);
    // Findings from before the new reading do not outdate it.
    expect(table.asked).toEqual(["acme.example", "acme", "acme.example", "acme"]);
    expect(table.changes).toEqual([]);
  });

  it("that was deleted without a notification is unknown as soon as a request found it outdated", async () => {
    const globex = await table.source.byId("globex");
    if (globex === null) throw new Error("there is no globex");
    await table.test.execute(
      "begin; set local session_replication_role = replica; delete from rowhouse.tenant_host where tenant = 'globex'; delete from rowhouse.tenant where id = 'globex'; commit",
    );
    expect(await table.source.byId("globex")).toBe(globex);
    table.source.outdate(globex);
    expect(await table.source.byId("globex")).toBeNull();
    expect(table.changes).toEqual(["globex"]);
  });

  it("remains the same object if only another tenant changed", async () => {
    const globex = await table.source.byId("globex");
    await table.change("update rowhouse.tenant set api = 'v2' where id = 'acme'");
    expect(await table.source.byId("globex")).toBe(globex);
    expect(table.asked).toEqual(["globex"]);
  });

  it("is gone once its row is deleted, disabled or truncated", async () => {
    for (const sql of [
      "delete from rowhouse.tenant where id = 'acme'",
      "update rowhouse.tenant set enabled = false where id = 'globex'",
    ]) {
      await Promise.all([table.source.byId("acme"), table.source.byHost("globex.example")]);
      await table.change(sql);
    }
    expect([await table.source.byHost("acme.example"), await table.source.byId("globex")]).toEqual([
      null,
      null,
    ]);
    await table.change("update rowhouse.tenant set enabled = true");
    expect(await table.source.byId("globex")).not.toBeNull();
    await table.change("truncate rowhouse.tenant cascade");
    expect(await table.source.byId("globex")).toBeNull();
    expect(table.changes.at(-1)).toBe("globex");
  });

  it("takes over a host from another at once", async () => {
    expect(await table.source.byHost("globex.example")).toMatchObject({ id: "globex" });
    await table.change(`update rowhouse.tenant set hosts = '{}' where id = 'globex'`);
    // By now globex has been read again, without the host.
    expect(await table.source.byId("globex")).toMatchObject({ hosts: [] });
    expect(await table.source.byHost("globex.example")).toBeNull();
    await table.change(`update rowhouse.tenant set hosts = hosts || '{globex.example}' where id = 'acme'`);
    expect(await table.source.byHost("globex.example")).toMatchObject({ id: "acme" });
  });

  it("that was read before a change and returned after it is not kept", async () => {
    const release = table.hold();
    const early = table.source.byId("globex");
    await once(table.events, "answered");
    await table.change("update rowhouse.tenant set api = 'v2' where id = 'globex'");
    const late = await table.source.byId("globex");
    release();
    expect([(await early)?.api, late?.api]).toEqual([null, "v2"]);
    expect((await table.source.byId("globex"))?.api).toBe("v2");
  });

  it("is read again after some time, in case a notification was lost", async () => {
    const before = await table.source.byId("globex");
    await table.source.byId("acme");
    await table.source.close();
    await table.test.execute("update rowhouse.tenant set api = 'v2' where id = 'globex'");
    table.nowMs += 300_000 + 1;
    const [globex, acme] = [await table.source.byId("globex"), await table.source.byId("acme")];
    expect([before?.api, globex?.api]).toEqual([null, "v2"]);
    expect(table.asked).toEqual(["globex", "acme", "globex", "acme"]);
    expect(acme).not.toBeNull();
    expect(table.changes).toEqual(["globex"]);
  });
});

describe("an unknown name", () => {
  it("is looked up once in 5 seconds, and at once after any change", async () => {
    expect(await table.source.byHost("initech.example")).toBeNull();
    table.nowMs += 4_999;
    expect(await table.source.byHost("initech.example")).toBeNull();
    expect(table.asked).toHaveLength(1);
    table.nowMs += 2;
    expect(await table.source.byHost("initech.example")).toBeNull();
    expect(table.asked).toHaveLength(2);
    await table.change(
      `insert into rowhouse.tenant (id, hosts, schemas) values ('initech', '{initech.example}', '["i"]')`,
    );
    expect(await table.source.byHost("initech.example")).toMatchObject({ id: "initech" });
  });

  it("is not looked up if it cannot be an id, and never becomes SQL", async () => {
    expect(await table.source.byId("x' or true --")).toBeNull();
    expect(table.asked).toEqual([]);
    expect(await table.source.byHost("x' or true --")).toBeNull();
  });
});
