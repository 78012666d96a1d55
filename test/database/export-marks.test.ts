import { type GraphQLSchema, isObjectType } from "postgraphile/graphql";
import { afterAll, beforeAll, expect, it } from "vitest";
import { leaveOutExportMarks } from "../../workers/graphile/export-marks.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { buildSdl } from "../support/sdl.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("export_marks");
  await database.execute(workerTenantSql("ada"));
  await database.execute(`
    create type ada.size as enum ('small', 'large');
    create domain ada.label as text check (value <> '');
    create table ada.shelf (id int primary key, label ada.label, size ada.size, spans int4range[]);
    create function ada.shelf_title(ada.shelf) returns text language sql stable as $$ select $1.label::text $$;
    insert into ada.shelf values (1, 'first', 'large', '{"[1,3)"}')`);
});
afterAll(() => database.drop());

/** The plans of fields that carry export metadata. */
function noted(schema: GraphQLSchema): Set<object> {
  const fields = Object.values(schema.getTypeMap())
    .filter(isObjectType)
    .flatMap((type) => Object.values(type.getFields()));
  const plans = fields.map((field) => field.extensions.grafast?.plan).filter((plan) => plan !== undefined);
  return new Set(plans.filter((plan) => Object.hasOwn(plan, "$exporter$args")));
}

it("a schema, its SQL and its answers are the same without export metadata, which is left out", async () => {
  const define = Object.defineProperties;
  try {
    const before = await buildSdl(database.url, ["ada"], null);
    leaveOutExportMarks();
    const { schema, sdl, sql, answer } = await buildSdl(database.url, ["ada"], null);
    // What remains came with PostGraphile's modules, which were loaded before.
    const loaded = [...noted(before.schema)].filter((plan) => noted(schema).has(plan));
    expect(noted(before.schema).size).toBeGreaterThan(loaded.length + 10);
    expect(noted(schema).size).toBe(loaded.length);
    expect({ sdl, sql, answer }).toEqual({ sdl: before.sdl, sql: before.sql, answer: before.answer });
    expect(answer).toContain('"size":"large"');
  } finally {
    Object.defineProperties = define;
  }
});

it("other properties are defined as usual, and the factory mark remains", () => {
  const define = Object.defineProperties;
  try {
    leaveOutExportMarks();
    const target = Object.defineProperties({}, { a: { value: 1 }, b: { get: () => 2, enumerable: true } });
    expect(Object.getOwnPropertyDescriptors(target)).toEqual(
      Object.getOwnPropertyDescriptors(define({}, Object.getOwnPropertyDescriptors(target))),
    );
    const marked = Object.defineProperties(
      {},
      { $exporter$factory: { value: () => 1 }, $exporter$args: { value: [] } },
    );
    expect("$exporter$factory" in marked).toBe(true);
    expect("$exporter$args" in marked).toBe(false);
    expect(() => Object.defineProperties(1 as never, {})).toThrow(TypeError);
  } finally {
    Object.defineProperties = define;
  }
});
