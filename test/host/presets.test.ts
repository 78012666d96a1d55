import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeSchema } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import {
  buildClientSchema,
  getIntrospectionQuery,
  graphqlSync,
  type IntrospectionQuery,
  printSchema,
} from "postgraphile/graphql";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { TestHost } from "../support/host.ts";
import { streetPresetFile } from "../support/host-files.ts";
import { type Orders, recorder, streetPresets } from "../support/street-presets.ts";
import { elsewhereSql, streetSql } from "../support/street-schemas.ts";

const names = Object.keys(streetPresets);
/** Schemas whose physical names are the logical ones, as stock PostGraphile needs, and others of the same shape. */
const physical = { plain: ["app", "side"], renamed: ["r_app", "r_side"] } as const;
const introspection = getIntrospectionQuery({
  specifiedByUrl: true,
  directiveIsRepeatable: true,
  schemaDescription: true,
  inputValueDeprecation: true,
  oneOf: true,
});

let database: TestDatabase;
let url: string;
let orders: string;
/** The result of PostGraphile alone for each preset. */
const stock = new Map<string, { readonly sdl: string; readonly orders: Orders }>();

beforeAll(async () => {
  database = await createDatabase("presets");
  const role = `${database.name}_host`;
  await database.execute(`create role ${role} login password 'secret'; ${elsewhereSql}`);
  url = database.urlAs(role, "secret");
  orders = await mkdtemp(join(tmpdir(), "rowhouse-orders-"));
  const create = (which: keyof typeof physical): Promise<void> => {
    const [app, side] = physical[which];
    return database.execute(streetSql(app, side, role, `canary_amber${which}`));
  };
  await create("plain");
  // Before others are created, since PostGraphile reads the whole database.
  for (const name of names) stock.set(name, await stockOf(name));
  await create("renamed");
}, 300_000);

afterAll(async () => {
  await rm(orders, { recursive: true });
  await database.execute(`drop owned by ${database.name}_host cascade; drop role ${database.name}_host`);
  await database.drop();
});

const sdlOf = (data: unknown): string => printSchema(buildClientSchema(data as IntrospectionQuery));

async function stockOf(name: string): Promise<{ sdl: string; orders: Orders }> {
  let seen: Orders = { plugins: [], behaviors: [] };
  const service = makePgService({ connectionString: url, schemas: [...physical.plain], pubsub: false });
  try {
    const { schema } = await makeSchema({
      extends: streetPresets[name] ?? [],
      plugins: [
        recorder((told) => {
          seen = told;
        }),
      ],
      pgServices: [service],
      gather: { pgJwtTypes: ["app.session"] },
      // A host signs with each tenant's secret; stock PostGraphile only has tokens with a secret of its own.
      schema: { pgJwtSecret: "secret" },
    });
    return { sdl: sdlOf(graphqlSync({ schema, source: introspection }).data), orders: seen };
  } finally {
    await service.release?.();
  }
}

const tenantOf = (name: string, which: keyof typeof physical, kind: string) => ({
  id: `${name}${which}`,
  schemas: { app: physical[which][0], side: physical[which][1] },
  // In a shared instance, objects that are only referred to must be found by their bare names.
  sharedSchemas: ["elsewhere"],
  settings: { preset: name, file: `${name}-${kind}` },
});

describe.each(["pooled", "dedicated"])("a %s instance of a common preset", (kind) => {
  let host: TestHost;

  beforeAll(async () => {
    host = await TestHost.start({
      config: {
        databases: { main: { url, install: false } },
        guard: "off",
        roleSafety: "off",
        pooling: kind === "pooled",
        preset: streetPresetFile,
        tenants: names.flatMap((name) => [tenantOf(name, "renamed", kind), tenantOf(name, "plain", kind)]),
      },
      env: { TEST_ORDERS: orders },
    });
  });
  afterAll(() => host.stop());

  it("serves the tenant's own rows", async () => {
    for (const which of Object.keys(physical)) {
      expect(await host.data(`amber${which}`, "{ tagByRowId(rowId: 1) { label } }")).toEqual({
        tagByRowId: { label: `canary_amber${which}` },
      });
    }
  });

  it.each(names)(
    "has the API that PostGraphile alone builds, and its order of plugins and behaviors (%s)",
    async (name) => {
      const expected = stock.get(name);
      if (expected === undefined) throw new Error("nothing to compare with");
      // The pooled one is built on the renamed schemas. For dedicated ones, it is enough to build twice those presets that
      // derive names from schemas in their own way.
      const all = kind === "pooled" || ["amber", "v4", "prefixed"].includes(name);
      for (const which of all ? (["renamed", "plain"] as const) : (["plain"] as const)) {
        const sdl = sdlOf(await host.data(`${name}${which}`, introspection));
        expect(sdl).toBe(expected.sdl);
        expect(await host.adminJson(`/tenants/${name}${which}`)).toMatchObject({ kind });
      }
      const seen: Orders = JSON.parse(await readFile(join(orders, `${name}-${kind}.json`), "utf8"));
      const plugins = seen.plugins
        .map((plugin) => (plugin === "RowhouseLoginTokensPlugin" ? "PgJWTPlugin" : plugin))
        .filter((plugin) => !plugin.startsWith("Rowhouse"));
      expect(plugins).toEqual(expected.orders.plugins);
      expect(seen.behaviors).toEqual(expected.orders.behaviors);
      // The compared lists are not empty.
      expect(plugins.length).toBeGreaterThan(50);
      expect(seen.behaviors.length).toBeGreaterThan(50);
      expect(expected.sdl).toMatch(/scalar (The)?Session/);
    },
  );
});
