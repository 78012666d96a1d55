import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deafUrl, figuresSince } from "../support/guard-host.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";

const provoke = `
create function provoke(code text) returns text language plpgsql stable as
  $$ begin raise exception 'provoked' using errcode = code; end $$;
`;

/** Each keeps the API unchanged, but removes the object that the plan refers to. */
const changes = [
  [
    "a column",
    "42703",
    `alter table item rename column label to title; comment on column item.title is '@name label'`,
    "{ itemByRowId(rowId: 1) { label } }",
  ],
  [
    "a table",
    "42P01",
    `alter table part rename to piece; comment on table piece is '@name part'`,
    "{ allParts(first: 1) { nodes { rowId } } }",
  ],
  [
    "a function",
    "42883",
    `alter function same_label(label) rename to equal_label; comment on function equal_label(label) is '@name same_label'`,
    '{ sameLabel(given: "x") }',
  ],
  [
    "a type",
    "42704",
    `alter type mood rename to humour; comment on type humour is '@name mood'`,
    "{ nextMood(given: calm) }",
  ],
] as const;

describe.each([
  ["pooled", true],
  ["dedicated", false],
])("a read of a %s instance, planned before the schema moved without a notification,", (_, pooling) => {
  let database: TenantDatabase;
  let host: TestHost;

  beforeAll(async () => {
    database = await createTenantDatabase("outdated");
    const tenants = [await database.tenant("ada", provoke), await database.tenant("bob", provoke)];
    const { hostUrl, connected } = database;
    host = await TestHost.start({
      config: {
        databases: { main: { url: hostUrl, listenUrl: deafUrl(database), install: false } },
        tenants,
        pooling,
      },
      connected,
    });
  });
  afterAll(async () => {
    await host.stop();
    await database.drop();
  });

  it.each(changes)(
    "is run again under the new schema if %s is missing (%s)",
    async (_what, _code, sql, query) => {
      const before = await host.data("ada", query);
      const other = await host.data("bob", query);
      const moved = await figuresSince(host);
      await database.change("ada", sql);
      // All concurrent ones, not only the first.
      const answers = await Promise.all(Array.from({ length: 12 }, () => host.data("ada", query)));
      expect(answers).toEqual(answers.map(() => before));
      expect(await moved()).toMatchObject({ exhausted: 0 });
      expect((await moved()).retries).toBeGreaterThan(0);
      expect(await host.data("bob", query)).toEqual(other);
    },
  );

  it.each(["42703", "42P01", "42883", "42704", "XX000"])(
    "fails with the client's own error if a function raises %s and nothing has moved",
    async (code) => {
      const moved = await figuresSince(host);
      const answers = await Promise.all(
        Array.from({ length: 40 }, () => host.graphql("bob", `{ provoke(code: "${code}") }`)),
      );
      for (const { status, data, errors } of answers) {
        expect({ status, data }).toEqual({ status: 200, data: { provoke: null } });
        expect(errors).toHaveLength(1);
      }
      expect(await moved()).toEqual({ failures: 0, retries: 0, exhausted: 0, reads: 0, builds: 0 });
    },
  );
});
