import { makeSchema } from "postgraphile/graphile-build";
import { lexicographicSortSchema, printSchema } from "postgraphile/graphql";
import { afterAll, beforeAll, expect, it } from "vitest";
import { specOf } from "../../bench/blueprint.ts";
import { cellId } from "../../src/shared/kernel/ids.ts";
import { Patching } from "../../workers/graphile/patching.ts";
import { buildingAdaptor } from "../../workers/instance/build-adaptor.ts";
import { instancePreset } from "../../workers/instance/preset.ts";
import { TenantPool } from "../../workers/postgres/connection-pool.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { operationLimits } from "../support/operation-limits.ts";
import { patchStates } from "../support/patches.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("behavior_matches");
  await database.execute(workerTenantSql("ada"));
  await database.execute(`
    create table ada.shelf (id int primary key, label text, place point, person_id int references ada.person);
    create table ada.book (id int primary key, title text, shelf_id int references ada.shelf, unique (title));
    comment on table ada.book is '@behavior -insert -query:resource:connection +list';
    comment on column ada.book.title is '@behavior -filterBy -orderBy';
    comment on table ada.shelf is '@behavior -*:delete';
    comment on constraint shelf_person_id_fkey on ada.shelf is '@behavior -manyRelation:resource:connection';
    create function ada.titles() returns setof text language sql stable as 'select title from ada.book';
    comment on function ada.titles() is '@behavior +filterBy';
    grant select, insert, update, delete on ada.shelf, ada.book to ada`);
});
afterAll(() => database.drop());

interface Built {
  readonly sdl: string;
  /** Source of the function that matched behaviors. */
  readonly method: string;
  /** Behaviors of tables and columns during the build, with their derivation. */
  readonly behaviors: string;
  /** How many entities' behaviors are kept once the build is over. */
  readonly kept: number;
  /** Whether rows may be inserted into a resource, asked once the build is over. */
  readonly inserted: Readonly<Record<string, boolean | undefined>>;
}

/** The result of a build, with or without the plugin. */
async function built(remembering: boolean): Promise<Built> {
  const setup = {
    cell: cellId(1),
    applicationName: "rowhouse:behavior-matches",
    databases: {},
    preset: null,
    requestHeaders: [],
    graphiql: false,
    production: true,
    resultBytes: 1_000_000,
    operations: operationLimits,
    statementTimeoutMs: 30_000,
    patches: patchStates(),
    ledger: new SharedArrayBuffer(8),
  };
  const spec = specOf("pooled", { app: "ada" }, 1);
  const log = (): void => undefined;
  const { applicationName, resultBytes, statementTimeoutMs } = setup;
  const sessions = new TenantPool({
    url: database.url,
    poolSize: 1,
    poolReserve: 0,
    applicationName,
    resultBytes,
    statementTimeoutMs,
    log,
  });
  const serving = (): never => {
    throw new Error("nothing is served");
  };
  const { preset } = await instancePreset({
    setup,
    spec,
    building: buildingAdaptor(sessions, spec),
    serving,
    isServing: () => false,
    log,
    patching: new Patching(setup.patches),
  });
  let method = "";
  let behaviors = "";
  let build: GraphileBuild.Build | undefined;
  const spy: GraphileConfig.Plugin = {
    name: "SpyPlugin",
    version: "1.0.0",
    schema: {
      hooks: {
        GraphQLSchema(config, { behavior, input }) {
          behaviors = JSON.stringify(
            Object.values(input.pgRegistry.pgResources).map((resource) => [
              behavior.getBehaviorForEntity("pgResource", resource),
              behavior.getBehaviorForEntity("pgCodec", resource.codec),
              Object.keys(resource.codec.attributes ?? {}).map((name) =>
                // biome-ignore lint/suspicious/noExplicitAny: it has attributes, or there were no names
                behavior.getBehaviorForEntity("pgCodecAttribute", [resource.codec as any, name]),
              ),
            ]),
          );
          return config;
        },
        finalize(schema, finished) {
          build = finished;
          method = String(finished.behavior.entityMatches);
          return schema;
        },
      },
    },
  };
  const plugins = (preset.plugins ?? []).filter(
    ({ name }) => remembering || name !== "RowhouseBehaviorMatchesPlugin",
  );
  expect(plugins.length).toBe((preset.plugins ?? []).length - (remembering ? 0 : 1));
  const { schema } = await makeSchema({ ...preset, plugins: [...plugins, spy] });
  await sessions.close();
  if (build === undefined) throw new Error("nothing was built");
  const kept = keptBehaviors(build);
  const { behavior, input } = build;
  const inserted = Object.fromEntries(
    Object.values(input.pgRegistry.pgResources).map((resource) => [
      resource.name,
      behavior.pgResourceMatches(resource, "resource:insert"),
    ]),
  );
  return { sdl: printSchema(lexicographicSortSchema(schema)), method, behaviors, kept, inserted };
}

function keptBehaviors({ behavior }: GraphileBuild.Build): number {
  const kinds: unknown = Reflect.get(behavior, "behaviorEntities");
  const caches = Object.values(kinds ?? {}).flatMap((kind) => Object.values(kind ?? {}));
  return caches.reduce<number>((sum, cache) => sum + (cache instanceof Map ? cache.size : 0), 0);
}

it("a schema is the same whether behavior matches are cached or computed each time", async () => {
  const without = await built(false);
  // The library's own method, of a known version: any other would be left alone.
  expect(without.method).toContain("behaviorRegistry");
  const remembered = await built(true);
  expect(remembered.method).not.toContain("behaviorRegistry");
  expect(remembered.sdl).toBe(without.sdl);
  expect(remembered.behaviors).toBe(without.behaviors);
  expect(remembered.behaviors).toContain("-query:resource:connection");
  expect(remembered.sdl).toContain("type Book ");
  expect(remembered.sdl).not.toContain("createBook");
  // The cache ends with the build; later questions are computed again.
  expect(without.kept).toBeGreaterThan(100);
  expect(remembered.kept).toBe(0);
  expect(remembered.inserted).toEqual(without.inserted);
  expect(remembered.inserted).toMatchObject({ shelf: true, book: false });
});
