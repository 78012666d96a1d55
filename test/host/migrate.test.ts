import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import {
  createTenantDatabase,
  itemsQuery,
  schemaOf,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";

const token = `token_${randomBytes(12).toString("hex")}`;
let database: TenantDatabase;
const tenants: TenantRecord[] = [];

beforeAll(async () => {
  database = await createTenantDatabase("migrate");
  for (const id of ["acme", "globex", "initech"]) tenants.push(await database.tenant(id));
  tenants.push(await database.tenant("hooli", "create table more (id integer)"));
});

afterAll(() => database.drop());

/** A config that connects as the owner of tenants' schemas. */
const asOwner = (more: object = {}) => ({
  databases: { main: { url: database.url } },
  tenants,
  pooling: true,
  ...more,
});

async function run(args: readonly string[], files: Record<string, string> = {}, config: object = asOwner()) {
  const { path, remove } = await directoryWith({ ...files, "rowhouse.config.json": JSON.stringify(config) });
  try {
    return await runCli({ args, cwd: path });
  } finally {
    await remove();
  }
}

const migrate = (sql: string, ...args: string[]) =>
  run(["migrate", "--sql", "change.sql", ...args], { "change.sql": sql });

/** Each tenant's result in the printed table. */
const resultsIn = (stdout: string): Record<string, string> =>
  Object.fromEntries(
    stdout
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => line.split(/\s{2,}/))
      .map(([tenant = "", result = ""]) => [tenant, result]),
  );

async function tenantsWith(table: string): Promise<string[]> {
  const rows = await database.query(
    "select table_schema as schema from information_schema.tables where table_name = $1 order by 1",
    [table],
  );
  return rows.map((row) => String(row["schema"]));
}

describe("rowhouse migrate", () => {
  it("applies SQL once to each named tenant, however often the option is given", async () => {
    const { code, stdout, stderr } = await migrate(
      "create table named (id integer);\ncomment on table named is 'Müßig';\n",
      ...["--tenant", "acme", "--tenant=globex", "--tenant", "acme"],
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(resultsIn(stdout)).toEqual({ acme: "migrated", globex: "migrated" });
    expect(await tenantsWith("named")).toEqual([schemaOf("acme"), schemaOf("globex")]);
  });

  it("reports which tenants failed and why, migrates the others, and continues from there when run again", async () => {
    const blocker = `create table ${schemaOf("globex")}.halfway (id integer)`;
    await database.execute(blocker);
    const sql = "create table halfway (id integer)";
    const first = await migrate(sql, "--all", "--parallel", "2");
    expect(first.code).toBe(1);
    const failed = { acme: "migrated", globex: "MIGRATION_FAILED", initech: "migrated", hooli: "migrated" };
    expect(resultsIn(first.stdout)).toEqual(failed);
    expect(first.stderr).toMatch(/globex: relation "halfway" already exists \(42P07\)/);
    expect(first.stderr).toMatch(/1 of 4 tenants were not migrated: globex\n/);

    await database.execute(`drop table ${schemaOf("globex")}.halfway`);
    const second = await migrate(sql, "--all");
    expect(second.code).toBe(0);
    const before = "already applied";
    expect(resultsIn(second.stdout)).toEqual({
      acme: before,
      globex: "migrated",
      initech: before,
      hooli: before,
    });
    const third = await migrate(sql, "--tenant", "acme", "--again");
    expect(third).toMatchObject({ code: 1, stderr: expect.stringMatching(/already exists/) });
  });

  it("selects the tenants like a given one, even after that one has been migrated", async () => {
    // The first test left two of them with an extra table.
    for (const id of ["acme", "globex"]) await database.execute(`drop table ${schemaOf(id)}.named`);
    const sql = "create table alike (id integer)";
    // Locked for a while: this one fails, and the others do not.
    await database.execute(`begin; select pg_advisory_xact_lock_shared(rowhouse.tenant_lock_key('globex'))`);
    const first = await migrate(sql, "--like", "acme", "--lock-timeout", "200ms");
    await database.execute("commit");
    expect(first.code).toBe(1);
    expect(resultsIn(first.stdout)).toEqual({
      acme: "migrated",
      globex: "LOCK_TIMEOUT",
      initech: "migrated",
    });
    const second = await migrate(sql, "--like", "acme");
    expect(second.code).toBe(0);
    expect(resultsIn(second.stdout)).toEqual({ globex: "migrated" });
    expect(await migrate(sql, "--like", "acme")).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/no tenant needs/),
    });
    expect(await tenantsWith("alike")).toHaveLength(3);
  });

  it("does not touch a tenant whose shape is not the expected one", async () => {
    const shape = JSON.parse((await run(["shape", "hooli", "--json"])).stdout).shape;
    const { code, stdout } = await migrate("create table expected (id integer)", "--all", "--expect", shape);
    expect(code).toBe(1);
    expect(resultsIn(stdout)).toEqual({
      acme: "SCHEMA_CHANGED",
      globex: "SCHEMA_CHANGED",
      initech: "SCHEMA_CHANGED",
      hooli: "migrated",
    });
    expect(await tenantsWith("expected")).toEqual([schemaOf("hooli")]);
  });

  it.each([
    [["--all"], 1, /the file nothing\.sql cannot be read/],
    [[], 2, /exactly one of --tenant, --all and --like/],
    [["--all", "--like", "acme"], 2, /exactly one of/],
    [["--all", "--expect", "abc"], 2, /--expect must be a shape hash/],
    [["--all", "--parallel", "0"], 2, /--parallel must be a whole number/],
    [["--all", "--lock-timeout", "0"], 2, /--lock-timeout must be a duration/],
    [["--all", "--parallel", "2", "--parallel", "3"], 2, /--parallel is given more than once/],
    [["--all", "--al"], 2, /unknown option --al/],
  ] as const)("with %j exits with %i", async (args, expected, words) => {
    const { code, stderr } = await run(["migrate", "--sql", "nothing.sql", ...args]);
    expect({ code, stderr }).toEqual({ code: expected, stderr: expect.stringMatching(words) });
  });

  it("touches no tenant if one is unknown", async () => {
    const { code, stderr } = await migrate(
      "create table unknown (id integer)",
      "--tenant",
      "acme",
      "--tenant",
      "nobody",
    );
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'rowhouse: there is no tenant named "nobody"\n' });
    expect(await tenantsWith("unknown")).toEqual([]);
  });
});

describe("POST /tenants/:id/migrate", () => {
  it("migrates a tenant that is being served, and its next request gets the new schema", async () => {
    const config = asOwner({ admin: { port: 0, token } });
    const host = await TestHost.start({ config, connected: database.connected });
    const post = (body: object, id = "initech") =>
      host.admin(`/tenants/${id}/migrate`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
        body: JSON.stringify(body),
      });
    const shapeOf = async (id: string): Promise<string> => {
      const { text } = await host.admin(`/tenants/${id}`, { headers: { authorization: `Bearer ${token}` } });
      return JSON.parse(text).shape;
    };
    await host.data("initech", itemsQuery);
    await host.data("acme", itemsQuery);
    const from = await shapeOf("initech");
    const decided = () => host.process.linesOf("tenant.decided").length;
    const decidedBefore = decided();

    const refused = await post({ sql: "alter table item add column extra text", expect: "0".repeat(64) });
    expect(refused.status).toBe(409);
    expect(JSON.parse(refused.text).errors[0].extensions).toEqual({ code: "SCHEMA_CHANGED", shape: from });
    const bad = await post({ sql: "alter table item\n  add colum extra text text" });
    expect(bad.status).toBe(400);
    expect(JSON.parse(bad.text).errors[0]).toMatchObject({
      message: expect.stringMatching(/syntax error/),
      extensions: { code: "MIGRATION_FAILED", sqlState: "42601", line: 2 },
    });
    expect(await post({ sql: "select 1", expect: "abc" })).toMatchObject({ status: 400 });
    expect(await post({ sql: "select 1" }, "nobody")).toMatchObject({ status: 404 });
    await host.data("initech", itemsQuery);
    // A tenant that was not migrated is not decided again.
    expect([await shapeOf("initech"), decided()]).toEqual([from, decidedBefore]);

    const done = await post({ sql: "alter table item add column extra text default 'new'", expect: from });
    expect(done.status, done.text).toBe(200);
    const answer = JSON.parse(done.text);
    expect(answer).toEqual({
      tenant: "initech",
      from,
      to: expect.stringMatching(/^[0-9a-f]{64}$/),
      revisions: { [schemaOf("initech")]: expect.stringMatching(/^\d+$/), public: expect.any(String) },
      ms: expect.any(Number),
    });
    const { allItems } = await host.data("initech", "{ allItems(first: 1) { nodes { extra } } }");
    expect(allItems.nodes).toEqual([{ extra: "new" }]);
    expect(await shapeOf("initech")).toBe(answer.to);
    expect(host.process.linesOf("tenant.migrated")).toMatchObject([
      { tenant: "initech", from, to: answer.to },
    ]);
    await host.stop();
  });
});
