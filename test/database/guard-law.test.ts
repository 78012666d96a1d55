import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { revisionsOf } from "../../src/control/revisions.ts";
import { parseShape, shapeQuery } from "../../src/shape/shape.ts";
import { closureCases, closureSharedSql, closureTenantSql } from "../support/closure-cases.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { ddlCases, type Effect } from "../support/ddl-cases.ts";
import { installGuard } from "../support/guard-control.ts";
import {
  dropRolesSql,
  inTenant,
  probe,
  sharedSql,
  tenantOf,
  tenantSql,
  uniqueTenant,
} from "../support/shape-tenant.ts";

/**
 * What changes the hash and moves no proven revision. An earlier decision lasts until its tenant is decided anew; a managed
 * migration that did any of this moves the revisions of the tenant's own schemas.
 */
const exceptions: ReadonlyMap<string, readonly string[]> = new Map([
  [
    "the rows of enum tables: no event trigger sees them",
    [
      "insert into :app.kinds values ('state', 'A ministry', 3)",
      "delete from :app.kinds where name = 'company'",
      "update :app.kinds set description = 'Somebody' where name = 'private'",
      "update :app.kinds set rank = 7 where name = 'private'",
      "insert into lib.kinds values ('ship', 'On water.')",
    ],
  ],
  [
    "roles are the cluster's: no event trigger fires",
    ["grant :editor to :host", "alter role :host superuser", "alter role :editor rename to law_editor"],
  ],
  ["no event trigger fires for it (PostgreSQL 18)", ["reassign owned by :owner to :host"]],
  [
    "foreign servers have no schema, and what they allow only says which fields there are",
    ["alter server afar options (add updatable 'false')"],
  ],
  [
    "it comes every night, and a valid index only says which fields there are",
    ["reindex index :app.orders_broken"],
  ],
  [
    "until then no build of the shape succeeds, and one that does is decided anew when it ends",
    ["create table later.units (id int primary key)"],
  ],
  // Needs a setting that PostgreSQL has had since version 17.
  ...(inject("postgresMajor") < 17
    ? []
    : ([
        [
          "only a superuser can keep the event triggers out",
          ["set local event_triggers = off; alter table :app.orders add column unseen int"],
        ],
      ] as const)),
]);
const excepted = [...exceptions.values()].flat();

/** What the exceptions need besides the tenant of the shape tests. */
const exceptionsSql = `
grant insert on :app.animals to :editor;
create extension postgres_fdw; create server afar foreign data wrapper postgres_fdw;
create foreign table :app.distant (id int) server afar;
create index orders_broken on :app.orders (tags);
update pg_index set indisvalid = false where indexrelid = ':app.orders_broken'::regclass;`;

const acme = uniqueTenant("acme");

let database: TestDatabase;
let client: Client;
let shape: string;
let revisions: Readonly<Record<string, string>>;

/** In a transaction of its own, since rows written in it are recognised by their age. */
async function undone<T>(work: () => Promise<T>): Promise<T> {
  await client.query("begin");
  try {
    return await work();
  } finally {
    await client.query("rollback");
  }
}

beforeAll(async () => {
  database = await createDatabase("guard_law");
  await installGuard(database);
  client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query(inTenant(acme, sharedSql + closureSharedSql));
  await client.query(`begin; ${inTenant(acme, tenantSql + closureTenantSql + exceptionsSql)}; commit`);
  // Without revisions, as for a connecting role that has no rights on the control schema.
  ({ shape } = await undone(() => probe(client, acme)));
  const { text, values } = shapeQuery(tenantOf(acme), { revisions: true });
  ({ revisions } = parseShape((await client.query(text, values)).rows[0]));
});

afterAll(async () => {
  await client.end();
  await database.execute(inTenant(acme, dropRolesSql));
  await database.drop();
});

describe("if a DDL command changes the shape's hash, it moves a revision that was proven with it", () => {
  it("the proven revisions are those of every schema that the shape depends on", () => {
    expect(Object.keys(revisions).sort()).toEqual(
      [`${acme}_app`, `${acme}_crm`, "deep", "lib", "public"].sort(),
    );
    expect(Object.values(revisions)).not.toContain("0");
  });

  const known = new Map<string, Effect>([...ddlCases, ...closureCases]);
  const statements = new Set([...known.keys(), ...excepted]);

  it.each([...statements])("%s", async (statement) => {
    const { hash, moved } = await undone(async () => {
      await client.query(inTenant(acme, statement));
      // Fires the deferred triggers, as a commit would.
      await client.query("set constraints all immediate");
      const now = await revisionsOf(client, Object.keys(revisions));
      return {
        hash: (await probe(client, acme)).shape !== shape,
        moved: Object.entries(revisions).some(([name, revision]) => now[name] !== revision),
      };
    });
    if (excepted.includes(statement)) expect({ hash, moved }).toEqual({ hash: true, moved: false });
    else {
      expect({ moved: moved || !hash }).toEqual({ moved: true });
      expect(hash).toBe(known.get(statement) !== "none");
    }
  });
});
