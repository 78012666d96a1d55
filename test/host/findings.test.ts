/** The most common mistakes as `check` and `doctor` report them. Each suggested cure is applied, and must work. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { directoryWith } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

/** A mistake, each made in a tenant of its own. */
interface Mistake {
  readonly id: string;
  readonly name: string;
  /** SQL; `:schema` and `:role` are the tenant's, `:host` the connecting role. */
  readonly make?: string;
  /** The finding. Its first group is the cure: SQL, or keys for the tenant's record. */
  readonly says: RegExp;
  /** The level that `doctor` gives it. */
  readonly level: "fail" | "warn";
  readonly record?: (tenant: TenantRecord) => object;
}

const mistakes: readonly Mistake[] = [
  {
    id: "absent",
    name: "a role that does not exist",
    record: (tenant) => ({ ...tenant, roles: { ...tenant.roles, authenticated: "findings_nobody" } }),
    says: /role findings_nobody does not exist: (create role findings_nobody nologin)$/m,
    level: "fail",
  },
  {
    id: "member",
    name: "a role of which the host is not a member",
    make: "revoke :role from :host",
    says: /is not a member of role \S+: (grant \S+ to \S+ with inherit false, set true)$/m,
    level: "fail",
  },
  {
    id: "untaken",
    name: "a role that the host may not assume although it is a member",
    make: "revoke :role from :host; grant :role to :host with inherit false, set false",
    says: /is a member of role \S+ but may not SET ROLE to it: (grant \S+ to \S+ with set true)$/m,
    level: "fail",
  },
  {
    id: "unused",
    name: "a role that may not use the schema",
    make: "revoke usage on schema :schema from :role",
    says: /may not use the tenant's schema canary_unused: (grant usage on schema canary_unused to \S+)$/m,
    level: "fail",
  },
  {
    id: "silent",
    name: "a function that nobody may execute",
    make: "revoke execute on function :schema.slow from public",
    says: /function canary_silent\.slow\(seconds double precision\) is left out of the API because .* (grant execute on function canary_silent\.slow\(seconds double precision\) to \S+)$/m,
    level: "warn",
  },
  {
    id: "rows",
    name: "an enum table that nobody may read",
    make: "create table :schema.state (id text primary key); comment on table :schema.state is '@enum'; insert into :schema.state values ('on')",
    says: /may read the rows of canary_rows\.state, .*: (grant select on canary_rows\.state to \S+)$/m,
    level: "fail",
  },
  {
    id: "values",
    name: "values that GraphQL cannot name",
    make: "create type :schema.progress as enum ('open', 'in-progress', '*', '2nd')",
    says: /the enum canary_values\.progress has values that are not valid GraphQL names \("in-progress"\): (alter type canary_values\.progress rename value 'in-progress' to) …/,
    level: "fail",
  },
  {
    id: "path",
    name: "an extension whose schema is not on the search path",
    make: "alter table :schema.item add mail extensions.citext",
    says: /the schema extensions of the extension citext, .* is not on its search path .* operators such as = silently compare .*: set ("sharedSchemas": \["public","extensions"\])$/m,
    level: "fail",
  },
  {
    id: "closed",
    name: "an extension whose schema a role may not use, in a function's argument",
    make: "create function :schema.way(tree closed.ltree[]) returns int language sql stable return 1",
    record: (tenant) => ({ ...tenant, sharedSchemas: ["public", "closed"] }),
    says: /the schema closed of the extension ltree, .* may not be used by role \S+ .*: (grant usage on schema closed to \S+)$/m,
    level: "fail",
  },
];

let database: TenantDatabase;
let host: string;
const records = new Map<string, object>();
const said = { doctor: "", check: "" };
let checked = -1;

async function run(command: "check" | "doctor", more: object = {}) {
  const config = {
    databases: { main: { url: database.hostUrl, install: false } },
    tenants: [...records.values()],
    ...more,
  };
  const { path, remove } = await directoryWith({ "rowhouse.config.json": JSON.stringify(config) });
  try {
    const { code, stdout, stderr } = await runCli({ args: [command], cwd: path });
    return { code, said: `${stdout}${stderr}` };
  } finally {
    await remove();
  }
}

beforeAll(async () => {
  database = await createTenantDatabase("findings");
  host = `${database.name}_host`;
  await database.execute(`create schema extensions; create extension citext schema extensions; grant usage on schema extensions to public;
    create schema closed; create extension ltree schema closed`);
  for (const { id, make = "", record = (tenant: TenantRecord): object => tenant } of mistakes) {
    const tenant = await database.tenant(id);
    const words: Record<string, string> = { schema: `canary_${id}`, role: tenant.roles.anonymous, host };
    await database.execute(make.replace(/(?<!:):(schema|role|host)\b/g, (_, word) => words[word] ?? ""));
    records.set(id, record(tenant));
  }
  records.set("fine", await database.tenant("fine"));
  said.doctor = (await run("doctor")).said;
  const { code, said: text } = await run("check");
  checked = code ?? -1;
  said.check = text;
});

afterAll(() => database.drop());

it.each(mistakes)("$name is reported by both, with its cure", ({ id, says, level }) => {
  const lines = (text: string): string[] =>
    text.split("\n").filter((line) => line.includes(`tenant ${id}: `));
  expect(lines(said.doctor)).toEqual([expect.stringMatching(says)]);
  expect(lines(said.doctor)[0]).toMatch(new RegExp(`^${level} `));
  // What may be intended is not a fault, and check reports only faults.
  expect(lines(said.check)).toEqual(level === "fail" ? [expect.stringMatching(says)] : []);
});

it("a correct tenant is not mentioned, and check exits with 1 because of the others", () => {
  expect(said.doctor).not.toContain("tenant fine");
  expect(said.check).not.toContain("tenant fine");
  expect(checked).toBe(1);
});

it("the suggested cures resolve every finding", async () => {
  for (const { id, says } of mistakes) {
    const cure = says.exec(said.doctor)?.[1] ?? "";
    if (cure.startsWith('"')) records.set(id, { ...records.get(id), ...JSON.parse(`{${cure}}`) });
    else if (cure.startsWith("alter type")) await database.execute(`${cure} 'in_progress'`);
    else await database.execute(cure);
  }
  // A role that was just created still lacks what every role needs, which is reported next.
  const { said: next } = await run("check");
  for (const [, cure = ""] of next.matchAll(/: (grant .*)$/gm)) await database.execute(cure);
  const after = await run("check");
  expect(after).toEqual({ code: 0, said: expect.not.stringMatching(/tenant \w+: /) });
  await database.execute("drop owned by findings_nobody; drop role findings_nobody");
});

it("doctor accepts the default number of cells however few connections there are, and says why it is so low", async () => {
  const fine = [records.get("fine")];
  await database.execute(`alter role ${host} connection limit 60`);
  // Memory for nine cells.
  const { code, said: text } = await run("doctor", { tenants: fine, cells: { memoryMb: 3_000 } });
  expect(text).toMatch(/^ok {4}memory: 4 cells of 256 MB .*cells\.max is not set/m);
  expect(text).toMatch(/^ok {4}connections of main: 4 cells × poolSize 4/m);
  expect(code).toBe(0);
  const asked = await run("doctor", { tenants: fine, cells: { memoryMb: 5_000, max: 14 } });
  expect(asked.said).toMatch(/^fail {2}connections of main: .* connection limit of 60/m);
  expect(asked.code).toBe(1);
});
