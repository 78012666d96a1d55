import { describe, expect, it } from "vitest";
import { normaliseHost } from "../../src/tenants/host-name.ts";
import { tenantTable } from "../support/tenant-table.ts";

const table = tenantTable();
const warnings = (): string[] =>
  table.seen.flatMap((each) => (each.kind === "config.warning" ? [each.message] : []));

const insert = (id: string, ...hosts: string[]): string =>
  `insert into rowhouse.tenant (id, hosts, schemas) values ('${id}', array[${hosts.map((host) => `'${host}'`).join(", ")}]::text[], '["${id}"]')`;

/** The tenant that a request with this Host header would get. */
const idAt = async (host: string): Promise<string | undefined> =>
  (await table.source.byHost(normaliseHost(host) ?? "none"))?.id;

const spellings: [one: string, other: string][] = [
  ["straße.example", "STRASSE.example".replace("SS", "ẞ")],
  ["münchen.example", "xn--mnchen-3ya.example"],
  ["münchen.example", "mu\u0308nchen.example"],
  ["ÅNGSTRÖM.example", "a\u030angstro\u0308m.example"],
  ["plain.example", "ｐｌａｉｎ.example"],
  ["plain.example", "plain。example"],
  ["plain.example", "pla\u00adin.example"],
  ["10.0.0.1", "10.1"],
  ["10.0.0.1", "0x0a000001"],
  ["10.0.0.1", "167772161"],
  ["10.0.0.1", "١0.0.0.1".replace("١", "１")],
];

describe("a host in the control table", () => {
  it.each(spellings)(
    "that is claimed as %s is found when asked for as %s, and the other way round",
    async (one, other) => {
      await table.change(insert("initech", one));
      expect([await idAt(one), await idAt(other)]).toEqual(["initech", "initech"]);
      await table.change(`update rowhouse.tenant set hosts = array['${other}'] where id = 'initech'`);
      expect([await idAt(one), await idAt(other)]).toEqual(["initech", "initech"]);
      expect(warnings()).toEqual([]);
    },
  );

  it.each(spellings)("stays with whoever claimed %s first, when another claims %s", async (one, other) => {
    await table.change(insert("initech", one));
    await table.change(insert("thief", other));
    // Even though the thief's own record has been read by then.
    expect(await table.source.byId("thief")).toMatchObject({ id: "thief", hosts: [normaliseHost(one)] });
    expect([await idAt(one), await idAt(other)]).toEqual(["initech", "initech"]);
    expect(warnings()).toEqual([
      `tenants initech and thief claim the host ${normaliseHost(one)}: it is routed to initech, which claimed it first`,
    ]);
    await table.change("update rowhouse.tenant set hosts = '{}' where id = 'initech'");
    expect([await idAt(one), await idAt(other)]).toEqual(["thief", "thief"]);
    // Whoever claims it again comes second.
    await table.change(`update rowhouse.tenant set hosts = array['${one}'] where id = 'initech'`);
    expect([await idAt(one), await idAt(other)]).toEqual(["thief", "thief"]);
  });

  it("is looked up anew after its owner gave it up and another tenant claimed another spelling of it", async () => {
    await table.change(insert("initech", "münchen.example"));
    const first = await table.source.byHost("xn--mnchen-3ya.example");
    expect(first?.id).toBe("initech");
    await table.change(
      `begin; update rowhouse.tenant set hosts = '{}' where id = 'initech'; ${insert("hooli", "xn--mnchen-3ya.example")}; commit`,
    );
    expect((await table.source.byHost("xn--mnchen-3ya.example"))?.id).toBe("hooli");
  });

  it("belongs to nobody if two tenants claimed it without a recorded time, and the warning names both", async () => {
    await table.test.execute("alter table rowhouse.tenant_host alter claimed_at drop default");
    await table.change(
      `${insert("initech", "münchen.example")}; ${insert("hooli", "xn--mnchen-3ya.example")}`,
    );
    await table.test.execute(
      "alter table rowhouse.tenant_host alter claimed_at set default clock_timestamp()",
    );
    expect(await idAt("münchen.example")).toBeUndefined();
    expect(warnings()).toEqual([
      expect.stringMatching(
        /^tenants (initech and hooli|hooli and initech) claim the host xn--mnchen-3ya\.example: it is routed to none of them$/,
      ),
    ]);
    await table.change("delete from rowhouse.tenant where id = 'initech'");
    expect(await idAt("münchen.example")).toBe("hooli");
  });

  it("stays reserved for a disabled tenant", async () => {
    await table.change(insert("initech", "münchen.example"));
    await table.change("update rowhouse.tenant set enabled = false where id = 'initech'");
    await table.change(insert("thief", "xn--mnchen-3ya.example"));
    expect(await idAt("münchen.example")).toBeUndefined();
  });

  it("is found within five seconds, even without a notification", async () => {
    expect(await idAt("münchen.example")).toBeUndefined();
    await table.source.close();
    await table.test.execute(insert("initech", "münchen.example"));
    table.nowMs += 5_001;
    expect(await idAt("münchen.example")).toBe("initech");
  });

  it("is found in a control schema that does not record when it was claimed", async () => {
    await table.test.execute("alter table rowhouse.tenant_host drop column claimed_at");
    try {
      await table.change(insert("initech", "münchen.example"));
      expect(await idAt("münchen.example")).toBe("initech");
    } finally {
      await table.test.execute(
        "alter table rowhouse.tenant_host add column claimed_at timestamptz; alter table rowhouse.tenant_host alter claimed_at set default clock_timestamp()",
      );
    }
  });
});
