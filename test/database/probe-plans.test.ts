import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { installControl } from "../../src/control/install.ts";
import { Database } from "../../src/postgres/database.ts";
import { reachQuery } from "../../src/role-safety/reach.ts";
import { roleSafetyQuery } from "../../src/role-safety/tenant-roles.ts";
import { probeSettings, shapeQuery } from "../../src/shape/shape.ts";
import { parseTenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

const tenant = parseTenant(
  { id: "acme", schemas: { app: "acme" } },
  { database: "main", databases: ["main"] },
);
/** Catalogues that a thousand tenants do not make larger. Only roles are read whole, as no index tells superusers. */
const small = ["pg_event_trigger", "pg_extension", "pg_range", "pg_am", "pg_language", "pg_database"];

let server: TestDatabase;
let client: Client;

beforeAll(async () => {
  server = await createDatabase("probe_plans");
  const database = new Database({
    name: "main",
    url: server.url,
    applicationName: "test",
    observe: () => undefined,
  });
  await installControl(database, () => undefined);
  await database.close();
  await server.execute(
    Array.from(
      { length: 30 },
      (_, index) => `
      create schema s${index}; create type s${index}.mood as enum ('calm'); create domain s${index}.email as text check (value <> '');
      create table s${index}.thing (id int primary key, email s${index}.email, thing int references s${index}.thing);
      comment on table s${index}.thing is 'Of many.'; create policy own on s${index}.thing using (true);
      create function s${index}.f() returns int language sql as 'select 1'`,
    ).join(";"),
  );
  client = new Client({ connectionString: server.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await server.drop();
});

interface Node {
  readonly "Node Type": string;
  readonly "Relation Name"?: string | undefined;
  readonly "Index Name"?: string | undefined;
  readonly "Index Cond"?: string | undefined;
  readonly Plans?: readonly Node[] | undefined;
}
const node: z.ZodType<Node> = z.object({
  "Node Type": z.string(),
  "Relation Name": z.string().optional(),
  "Index Name": z.string().optional(),
  "Index Cond": z.string().optional(),
  get Plans() {
    return z.array(node).optional();
  },
});

const all = (root: Node): readonly Node[] => [root, ...(root.Plans ?? []).flatMap(all)];

/** The nodes of the generic plan, which all tenants' probes share. */
async function planOf({ text, values }: { text: string; values: unknown[] }): Promise<readonly Node[]> {
  await client.query(`begin; ${probeSettings}; set local plan_cache_mode = force_generic_plan`);
  try {
    await client.query(`prepare probed as ${text}`);
    const nulls = values.map(() => "null").join(", ");
    const { rows } = await client.query(`explain (format json) execute probed(${nulls})`);
    return all(z.tuple([z.object({ Plan: node })]).parse(rows[0]["QUERY PLAN"])[0].Plan);
  } finally {
    await client.query("rollback; deallocate all");
  }
}

const statistics = {
  "as they are after ANALYZE": "analyze",
  "that have never been taken": "delete from pg_statistic where starelid < 16384",
  "of a sample in which each column had one value only": `analyze;
    update pg_statistic set stadistinct = 1, stanullfrac = 0, stakind1 = 0, stakind2 = 0, stakind3 = 0,
      stanumbers1 = null, stanumbers2 = null, stanumbers3 = null, stavalues1 = null, stavalues2 = null, stavalues3 = null
    where starelid < 16384`,
  "of a sample in which no value came twice": `analyze;
    update pg_statistic set stadistinct = -1, stanullfrac = 0, stakind1 = 0, stakind2 = 0, stakind3 = 0,
      stanumbers1 = null, stanumbers2 = null, stanumbers3 = null, stavalues1 = null, stavalues2 = null, stavalues3 = null
    where starelid < 16384`,
};

test.for(
  Object.entries(statistics).flatMap(([state, make]) => [
    { asked: "shape", state, make, query: shapeQuery(tenant, { revisions: true }), besides: "pg_authid" },
    { asked: "roles", state, make, query: roleSafetyQuery(tenant), besides: "" },
    { asked: "SQL that reaches further", state, make, query: reachQuery(tenant), besides: "" },
  ]),
)(
  "with statistics $state a probe of $asked scans nothing that grows with the number of tenants",
  async ({ make, query, besides }) => {
    for (const statement of make.split(";")) await server.execute(statement);
    const nodes = await planOf(query);
    const scans = nodes.filter((each) =>
      /^(Seq|Index|Index Only|Bitmap Index) Scan$/.test(each["Node Type"]),
    );
    expect(scans.length).toBeGreaterThan(10);
    const leading = await leadingColumns();
    // Without a condition on its first column, PostgreSQL 18 skips through the whole index, and older versions read it.
    const whole = scans.filter(({ "Index Name": index = "", "Index Cond": condition = "" }) => {
      const [, column = ""] = leading.find(([name]) => name === index) ?? [];
      return column === "" || !new RegExp(`\\b${column}\\b`).test(condition);
    });
    const names = new Set(whole.map((each) => each["Relation Name"] ?? each["Index Name"] ?? ""));
    expect([...names].filter((name) => ![...small, besides].includes(name))).toEqual([]);
  },
);

const leadingRow = z.object({ index: z.string(), column: z.string() });

async function leadingColumns(): Promise<readonly (readonly [string, string])[]> {
  const { rows } = await client.query(`
    select i.indexrelid::regclass::text as index, a.attname as column
    from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]`);
  return rows.map((row) => {
    const { index, column } = leadingRow.parse(row);
    return [index.replace("rowhouse.", ""), column] as const;
  });
}
