import pg from "pg";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { importing, kitPreset } from "../support/kit-preset.ts";
import { type Ask, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
let worker: Worker;
const servs: Record<string, CellServ> = {};

beforeAll(async () => {
  database = await createDatabase("kit_localized");
  for (const tenant of ["ada", "bob"]) {
    await database.execute(`${workerTenantSql(tenant)};
      set search_path = ${tenant};
      create table dish (id int, kitchen text, name text not null, note text, primary key (id, kitchen));
      create table dish_translations (
        dish_id int, dish_kitchen text, locale text, name text, note text, hint text, tags text[],
        primary key (dish_id, dish_kitchen, locale), foreign key (dish_id, dish_kitchen) references dish
      );
      insert into dish select n, 'main', '${tenant} dish ' || n, 'note ' || n from generate_series(1, 3) n;
      insert into dish_translations values
        (1, 'main', 'de', '${tenant} Gericht 1', null, 'warm', null), (1, 'main', 'de-AT', null, 'Notiz AT', null, null),
        (1, 'main', 'fr', '${tenant} plat 1', 'note fr', null, null), (2, 'main', 'fr', '${tenant} plat 2', null, null, null),
        (3, 'main', 'de', 'secret', null, null, null);
      alter table dish_translations enable row level security;
      create policy open on dish_translations for select to ${tenant} using (name is distinct from 'secret');
      create table odd_translations (id int primary key, locale text, name text);
      create table wine (id int primary key, name text, cellar text);
      create table wine_translations (
        wine_id int references wine, locale text, name text, cellar text, internal text, primary key (wine_id, locale)
      );
      comment on column wine.cellar is E'@behavior -attribute:select';
      comment on column wine_translations.internal is E'@behavior -attribute:select';
      insert into wine values (1, 'red', 'unseen in the table');
      insert into wine_translations values (1, 'de', 'rot', null, 'unseen in the translation');
      grant select on wine, wine_translations to ${tenant};
      grant select on dish, dish_translations, odd_translations to ${tenant};
      grant insert on dish to ${tenant};
      reset search_path`);
  }
  const plugin = `localized({ setting: "jwt.claims.locale", fallback: "fr" })`;
  worker = new Worker(database, { preset: kitPreset(plugin, importing("localized")) });
  servs["pooled"] = await worker.build("pooled", { app: "ada" });
  servs["dedicated"] = await worker.build("dedicated", { app: "bob" });
});
afterAll(() => database.drop());

const query =
  "{ allDishes(orderBy: ROW_ID_ASC) { nodes { rowId name localized { name note hint locale } } } }";

const ask = async (kind: string, language: string | undefined, more: Partial<Ask> = {}) => {
  const serv = servs[kind];
  if (serv === undefined) throw new Error("not built");
  const headers: Record<string, string> = language === undefined ? {} : { "accept-language": language };
  const { json } = await worker.ask(serv, { tenant: "bob", query, headers, ...more });
  expect(json.errors).toBeUndefined();
  return json.data;
};
const localizedIn = async (language: string | undefined, kind = "pooled", more: Partial<Ask> = {}) =>
  (await ask(kind, language, more)).allDishes.nodes.map((node: { localized: object }) => node.localized);

const german = [
  { name: "bob Gericht 1", note: "note fr", hint: "warm", locale: "de" },
  { name: "bob plat 2", note: "note 2", hint: null, locale: "fr" },
  { name: "bob dish 3", note: "note 3", hint: null, locale: null },
];

describe("localized", () => {
  it.each(["pooled", "dedicated"])(
    "uses the request's language, else the next best, else the table's own text (%s)",
    async (kind) => {
      expect(await localizedIn("de", kind)).toEqual(german);
      expect(await localizedIn("de-AT, en;q=0.5", kind)).toEqual([
        { name: "bob Gericht 1", note: "Notiz AT", hint: "warm", locale: "de-AT" },
        ...german.slice(1),
      ]);
      expect((await localizedIn("en;q=0.9, fr", kind))[0]).toEqual({
        name: "bob plat 1",
        note: "note fr",
        hint: null,
        locale: "fr",
      });
      expect((await localizedIn(undefined, kind))[0]).toMatchObject({ locale: "fr" });
    },
  );

  it("prefers the setting to the header", async () => {
    const settings = { role: "bob", "jwt.claims.locale": "DE" };
    expect(await localizedIn("fr", "pooled", { settings })).toEqual(german);
  });

  it("follows each request's own language, also among concurrent requests of a pooled instance", async () => {
    const asked = Array.from(
      { length: 20 },
      (_, n) => [n % 2 === 0 ? "de" : "fr", n % 3 === 0 ? "ada" : "bob"] as const,
    );
    const answers = await Promise.all(
      asked.map(([language, tenant]) => localizedIn(language, "pooled", { tenant })),
    );
    answers.forEach(([first], index) => {
      const [language, tenant] = asked[index] ?? [];
      expect(first).toMatchObject({
        name: `${tenant} ${language === "de" ? "Gericht" : "plat"} 1`,
        locale: language,
      });
    });
  });

  it("reads translations as the request's role, under its policies", async () => {
    // The third dish has a German translation that the policy hides.
    expect((await localizedIn("de")).at(-1)).toMatchObject({ name: "bob dish 3", locale: null });
  });

  it("needs one statement for any number of rows", async () => {
    const sent = vi.spyOn(pg.Client.prototype, "query");
    await localizedIn("de");
    expect(sent.mock.calls).toHaveLength(1);
    sent.mockRestore();
  });

  it("is available on a row that a mutation returns", async () => {
    const mutation = `mutation { createDish(input: { dish: { rowId: 9, kitchen: "main", name: "new" } }) { dish { localized { name locale } } } }`;
    const data = await ask("pooled", "de", { query: mutation });
    expect(data.createDish.dish.localized).toEqual({ name: "new", locale: null });
  });

  it("exists only for tables with translations by foreign key, and only has scalar columns", async () => {
    const { __schema } = await ask("pooled", "de", {
      query: "{ __schema { types { name fields { name } } } }",
    });
    const types: { name: string; fields: { name: string }[] | null }[] = __schema.types;
    const withField = types.filter(({ fields }) => fields?.some(({ name }) => name === "localized"));
    expect(withField.map(({ name }) => name).toSorted()).toEqual(["Dish", "Wine"]);
    const own = types.find(({ name }) => name === "DishLocalized");
    expect(own?.fields?.map(({ name }) => name)).toEqual(["name", "note", "hint", "locale"]);
  });

  it("shows no column that the API hides, in the translations or in the translated table", async () => {
    const fields = await ask("pooled", "de", {
      query: '{ __type(name: "WineLocalized") { fields { name } } }',
    });
    expect(fields.__type.fields).toEqual([{ name: "name" }, { name: "cellar" }, { name: "locale" }]);
    const query = "{ allWines { nodes { localized { name cellar } } } }";
    for (const kind of ["pooled", "dedicated"]) {
      const { allWines } = await ask(kind, "de", { query });
      expect(allWines.nodes).toEqual([{ localized: { name: "rot", cellar: null } }]);
    }
  });

  it.each([
    ["SQL", "de'; drop table bob.dish; --"],
    ["braces of an array", '{"de","fr"}'],
    ["invalid tags", "*, zz_ZZ, ;;;q=, =, de--at, \u0001"],
    ["ten thousand languages", Array.from({ length: 10_000 }, (_, n) => `x${n}`).join(",")],
    ["one endless tag", "a-".repeat(100_000)],
    ["odd weights", "de;q=NaN, de-AT;q=-1, es;q=1e999, it;q=0"],
  ])("falls back if the header holds %s", async (_, header) => {
    for (const one of await localizedIn(header)) expect(["fr", null]).toContain(one.locale);
  });
});
