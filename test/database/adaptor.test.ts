import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { requestScope } from "../../workers/scope.ts";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn } from "../support/worker-adaptor.ts";

const state = "select current_user as role, current_setting('search_path') as path, name from item";
const ofA = [{ role: "ada", path: "ada, pg_temp", name: "ada" }];
const ofB = [{ role: "bob", path: "bob, pg_temp", name: "bob" }];

let database: TestDatabase;
let bench: AdaptorBench;
beforeAll(async () => {
  database = await adaptorDatabase("adaptor", ["ada", "bob"]);
  await database.execute(
    "create table public.seen (role text, path text); grant all on public.seen to public",
  );
  bench = adaptorOn(database);
});
afterEach(async () => {
  // One connection: whatever a test left behind, the next request would run into.
  expect(await bench.read(bench.request("bob"), state)).toEqual(ofB);
  expect(bench.sessions.stats).toMatchObject({ total: 1, waiting: 0 });
});
afterAll(async () => {
  await bench.close();
  await database.drop();
});

describe("a read", () => {
  it("runs as the request's role, on its path, on a connection that the last request had with another", async () => {
    expect(await bench.read(bench.request("ada"), state)).toEqual(ofA);
    expect(await bench.read(bench.request("bob"), state)).toEqual(ofB);
  });

  it("leaves the session as it was", async () => {
    const request = bench.request("ada");
    await bench.read({ ...request, settings: { ...request.settings, "app.user": "7" } }, "select 1");
    const [left] = await bench.read(
      bench.request("bob", { roles: ["bob"] }),
      "select current_setting('app.user', true) as u, current_setting('transaction_read_only') as r",
    );
    expect(left).toEqual({ u: "", r: "on" });
  });

  it.each([
    ["the role does not exist", { role: "nobody" }, { roles: ["nobody"] }, /nobody/],
    [
      "a setting is not PostgreSQL's",
      { "no such.setting name": "x" },
      {},
      /invalid configuration parameter name/,
    ],
    ["the path cannot be written", {}, { searchPath: ["$user"] }, /search_path/],
    ["the role is another tenant's", { role: "bob" }, {}, /not one of this tenant's/],
    ["the role is another tenant's, in capitals", { ROLE: "bob" }, {}, /not one of this tenant's/],
    ["the path is a plugin's", { search_path: "bob" }, {}, /search_path is the host's/],
    ["the path is a plugin's, in capitals", { Search_Path: "bob" }, {}, /search_path is the host's/],
    ["a setting holds a NUL", { "app.x": "a\0b" }, {}, /NUL/],
  ])("does not run at all where %s", async (_, settings, binding, message) => {
    const request = bench.request("ada", binding);
    const all = { ...request.settings, ...settings };
    for (const attempt of [
      () => bench.withPgClient.single(all, { text: "insert into public.seen values (current_user)" }),
      () =>
        bench.withPgClient(all, (client) =>
          client.query({ text: "insert into public.seen values (current_user)" }),
        ),
    ]) {
      await expect(attempt()).rejects.toThrow(message);
    }
    expect(await database.query("select * from public.seen")).toEqual([]);
  });

  it("takes the request's role where the caller's settings have none", async () => {
    const { scope } = bench.request("ada");
    const bare = { settings: { [requestScope]: scope }, scope, marked: () => false };
    expect(await bench.read(bare, state)).toEqual(ofA);
  });

  it("is refused where the tenant has roles and the request none", async () => {
    const { scope } = bench.request("ada");
    delete scope.settings["role"];
    await expect(bench.withPgClient.single(scope.settings, { text: "select 1" })).rejects.toThrow(/role/);
  });

  it("reads: a statement that writes is run again as a write, which is in the ledger", async () => {
    const request = bench.request("ada");
    const text = "update item set name = name where id = 1 returning name";
    expect(await bench.read(request, text)).toEqual([{ name: "ada" }]);
    expect(request.marked()).toBe(true);
    const other = bench.request("ada");
    await bench.read(other, "select * from item");
    expect(other.marked()).toBe(false);
  });

  it("does not run what a text smuggles in behind it", async () => {
    const text = "select 1; commit; insert into public.seen values (current_user)";
    await expect(bench.read(bench.request("ada"), text)).rejects.toThrow(/multiple commands/);
    await expect(bench.read(bench.request("ada"), "select '\0'")).rejects.toThrow(/NUL/);
    expect(await database.query("select * from public.seen")).toEqual([]);
  });

  it("hands on the first error, and PostgreSQL's notices", async () => {
    await expect(bench.read(bench.request("ada"), "select 1/0")).rejects.toMatchObject({ code: "22012" });
    await database.execute(`create or replace function ada.warn() returns int stable language plpgsql as
      $$ begin raise warning 'careful' using hint = 'now'; return 1; end $$`);
    const { notices } = await bench.withPgClient.single(bench.request("ada").settings, {
      text: "select warn()",
    });
    expect(notices).toMatchObject([{ severity: "WARNING", message: "careful", hint: "now" }]);
    const { notices: none } = await bench.withPgClient.single(bench.request("ada").settings, {
      text: "select 1",
    });
    expect(none).toEqual([]);
  });

  it("fails alone where a value cannot be written", async () => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    for (const name of ["same", "same", "same"]) {
      await expect(bench.read(bench.request("ada"), "select $1::json as v", name, [cycle])).rejects.toThrow(
        /circular/,
      );
    }
    expect(await bench.read(bench.request("ada"), "select $1::json as v", "same", [{ a: 1 }])).toEqual([
      { v: { a: 1 } },
    ]);
  });

  it("fails alone where a value is a text that PostgreSQL does not take", async () => {
    for (let n = 0; n < 3; n += 1) {
      await expect(
        bench.read(bench.request("ada"), "select $1::text as v", "nul", ["a\0"]),
      ).rejects.toMatchObject({
        code: "22021",
      });
    }
    expect(await bench.read(bench.request("ada"), "select $1::text as v", "nul", ["a"])).toEqual([
      { v: "a" },
    ]);
  });
});

describe("settings", () => {
  it("are refused when they are not a request's", async () => {
    for (const settings of [null, {}, { role: "ada" }]) {
      await expect(bench.withPgClient(settings, () => 1)).rejects.toThrow(/without the request's settings/);
      await expect(bench.withPgClient.single(settings ?? {}, { text: "select 1" })).rejects.toThrow(
        /without/,
      );
    }
  });

  it("are a request's also when copied, and refused once it is over", async () => {
    const { scope, settings } = bench.request("ada");
    const copies = [{ ...settings }, Object.assign({}, settings), { ...settings, "app.more": "1" }];
    for (const copy of copies) {
      expect((await bench.withPgClient.single(copy, { text: state })).rows).toEqual(ofA);
    }
    scope.close();
    for (const copy of [settings, ...copies]) {
      await expect(bench.withPgClient.single(copy, { text: state })).rejects.toThrow(/request that is over/);
      await expect(bench.withPgClient(copy, () => 1)).rejects.toThrow(/request that is over/);
    }
  });

  it("lost in a clone of plain data are no settings", async () => {
    const { settings } = bench.request("ada");
    const clone: Record<string, string> = JSON.parse(JSON.stringify(settings));
    await expect(bench.withPgClient.single(clone, { text: state })).rejects.toThrow(/without/);
  });
});
