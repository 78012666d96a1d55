import { beforeAll, describe, expect, it } from "vitest";
import { requestScope } from "../../workers/request/request-scope.ts";
import { ofAda, ofBob, oneConnection, state } from "../support/one-connection.ts";

const one = oneConnection("adaptor");

beforeAll(() =>
  one.database.execute("create table public.seen (role text, path text); grant all on public.seen to public"),
);

describe("a read", () => {
  it("runs as its request's role on its request's path, on a connection that served another before", async () => {
    expect(await one.bench.read(one.bench.request("ada"), state)).toEqual([ofAda]);
    expect(await one.bench.read(one.bench.request("bob"), state)).toEqual([ofBob]);
  });

  it("leaves none of its settings in the session", async () => {
    const request = one.bench.request("ada");
    await one.bench.read({ ...request, settings: { ...request.settings, "app.user": "7" } }, "select 1");
    const [left] = await one.bench.read(
      one.bench.request("bob", { roles: ["bob"] }),
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
    ["the role is another tenant's", { role: "bob" }, {}, /does not belong to this tenant/],
    ["the role is another tenant's, in capitals", { ROLE: "bob" }, {}, /does not belong to this tenant/],
    ["the path is a plugin's", { search_path: "bob" }, {}, /search_path is reserved for the host/],
    [
      "the path is a plugin's, in capitals",
      { Search_Path: "bob" },
      {},
      /search_path is reserved for the host/,
    ],
    ["a setting holds a NUL", { "app.x": "a\0b" }, {}, /NUL/],
  ])("does not run at all if %s", async (_, settings, binding, message) => {
    const request = one.bench.request("ada", binding);
    const all = { ...request.settings, ...settings };
    for (const attempt of [
      () => one.bench.withPgClient.single(all, { text: "insert into public.seen values (current_user)" }),
      () =>
        one.bench.withPgClient(all, (client) =>
          client.query({ text: "insert into public.seen values (current_user)" }),
        ),
    ]) {
      await expect(attempt()).rejects.toThrow(message);
    }
    expect(await one.database.query("select * from public.seen")).toEqual([]);
  });

  it("uses the request's role if the caller's settings have none", async () => {
    const { scope } = one.bench.request("ada");
    const bare = { settings: { [requestScope]: scope }, scope, marked: () => false };
    expect(await one.bench.read(bare, state)).toEqual([ofAda]);
  });

  it("is refused if the tenant has roles and the request has none", async () => {
    const { scope } = one.bench.request("ada");
    delete scope.settings["role"];
    await expect(one.bench.withPgClient.single(scope.settings, { text: "select 1" })).rejects.toThrow(/role/);
  });

  it("that turns out to write is run again as a write, and marked in the ledger", async () => {
    const request = one.bench.request("ada");
    const text = "update item set name = name where id = 1 returning name";
    expect(await one.bench.read(request, text)).toEqual([{ name: "ada" }]);
    expect(request.marked()).toBe(true);
    const other = one.bench.request("ada");
    await one.bench.read(other, "select * from item");
    expect(other.marked()).toBe(false);
  });

  it("does not run further commands that its text smuggles in", async () => {
    const text = "select 1; commit; insert into public.seen values (current_user)";
    await expect(one.bench.read(one.bench.request("ada"), text)).rejects.toThrow(/multiple commands/);
    await expect(one.bench.read(one.bench.request("ada"), "select '\0'")).rejects.toThrow(/NUL/);
    expect(await one.database.query("select * from public.seen")).toEqual([]);
  });

  it("reports the first error, and PostgreSQL's notices", async () => {
    await expect(one.bench.read(one.bench.request("ada"), "select 1/0")).rejects.toMatchObject({
      code: "22012",
    });
    await one.database.execute(`create or replace function ada.warn() returns int stable language plpgsql as
      $$ begin raise warning 'careful' using hint = 'now'; return 1; end $$`);
    const { notices } = await one.bench.withPgClient.single(one.bench.request("ada").settings, {
      text: "select warn()",
    });
    expect(notices).toMatchObject([{ severity: "WARNING", message: "careful", hint: "now" }]);
    const { notices: none } = await one.bench.withPgClient.single(one.bench.request("ada").settings, {
      text: "select 1",
    });
    expect(none).toEqual([]);
  });

  it("gets the notices of its own statement, not those of the commit behind it", async () => {
    await one.database.execute(`
      create or replace function ada.warn_late() returns trigger language plpgsql as
        $$ begin raise notice 'late'; return null; end $$;
      create constraint trigger late after update on ada.item deferrable initially deferred
        for each row execute function ada.warn_late();
      create or replace function ada.warn_now() returns int language plpgsql as
        $$ begin raise notice 'now'; raise notice 'and again'; return 1; end $$;`);
    const text = "update item set name = name where id = 1 returning warn_now()";
    const messages = ({ notices }: { readonly notices?: readonly { readonly message: string }[] }) =>
      notices?.map(({ message }) => message);
    const { settings } = one.bench.request("ada");
    const now = ["now", "and again"];
    expect(messages(await one.bench.withPgClient.singleWrite(settings, { text }))).toEqual(now);
    const several = await one.bench.withPgClient(settings, async (client) => [
      await client.query({ text }),
      await client.query({ text: "select 1" }),
      await client.query({ text }),
    ]);
    expect(several.map(messages)).toEqual([now, [], now]);
    // Nor does the next request get them.
    expect(messages(await one.bench.withPgClient.single(settings, { text: "select 1" }))).toEqual([]);
    await one.database.execute("drop trigger late on ada.item");
  });

  it("gets its own notices if several statements are in flight at once", async () => {
    await one.database.execute(`create or replace function ada.warn_of(what text) returns text stable language plpgsql as
      $$ begin raise notice '%', what; return what; end $$`);
    const told = await one.bench.withPgClient(one.bench.request("ada").settings, async (client) => {
      await client.query({ text: "select 1" });
      return Promise.all(
        ["a", "b", "c"].map((what) => client.query({ text: "select warn_of($1)", values: [what] })),
      );
    });
    expect(told.map(({ notices }) => notices?.map(({ message }) => message))).toEqual([["a"], ["b"], ["c"]]);
  });

  it("fails alone if a value cannot be encoded", async () => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    for (const name of ["same", "same", "same"]) {
      await expect(
        one.bench.read(one.bench.request("ada"), "select $1::json as v", name, [cycle]),
      ).rejects.toThrow(/circular/);
    }
    expect(
      await one.bench.read(one.bench.request("ada"), "select $1::json as v", "same", [{ a: 1 }]),
    ).toEqual([{ v: { a: 1 } }]);
  });

  it("fails alone if a value is a text that PostgreSQL does not accept", async () => {
    for (let n = 0; n < 3; n += 1) {
      await expect(
        one.bench.read(one.bench.request("ada"), "select $1::text as v", "nul", ["a\0"]),
      ).rejects.toMatchObject({
        code: "22021",
      });
    }
    expect(await one.bench.read(one.bench.request("ada"), "select $1::text as v", "nul", ["a"])).toEqual([
      { v: "a" },
    ]);
  });
});

describe("settings", () => {
  it("are refused if they are not a request's", async () => {
    for (const settings of [null, {}, { role: "ada" }]) {
      await expect(one.bench.withPgClient(settings, () => 1)).rejects.toThrow(
        /without the request's settings/,
      );
      await expect(one.bench.withPgClient.single(settings ?? {}, { text: "select 1" })).rejects.toThrow(
        /without/,
      );
    }
  });

  it("belong to their request even when copied, and are refused once it is over", async () => {
    const { scope, settings } = one.bench.request("ada");
    const copies = [{ ...settings }, Object.assign({}, settings), { ...settings, "app.more": "1" }];
    for (const copy of copies) {
      expect((await one.bench.withPgClient.single(copy, { text: state })).rows).toEqual([ofAda]);
    }
    scope.close();
    for (const copy of [settings, ...copies]) {
      await expect(one.bench.withPgClient.single(copy, { text: state })).rejects.toThrow(
        /request that has ended/,
      );
      await expect(one.bench.withPgClient(copy, () => 1)).rejects.toThrow(/request that has ended/);
    }
  });

  it("are refused if a clone as plain data has lost their request", async () => {
    const { settings } = one.bench.request("ada");
    const clone: Record<string, string> = JSON.parse(JSON.stringify(settings));
    await expect(one.bench.withPgClient.single(clone, { text: state })).rejects.toThrow(/without/);
  });
});
