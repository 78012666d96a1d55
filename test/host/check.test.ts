import { afterAll, beforeAll, expect, it } from "vitest";
import { directoryWith } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";

let database: TenantDatabase;

beforeAll(async () => {
  database = await createTenantDatabase("check");
});

afterAll(() => database.drop());

it("check names all that serve would not start with: a control schema that may not be installed, listenUrl, a module", async () => {
  const bare = new URL(database.hostUrl);
  bare.pathname = "/postgres";
  const config = {
    databases: { main: { url: bare.href, listenUrl: "postgres://nobody:hunter2@127.0.0.1:1/none" } },
    tenants: { module: "./tenants.mjs" },
  };
  const { path, remove } = await directoryWith({
    "rowhouse.config.json": JSON.stringify(config),
    "tenants.mjs": "throw new Error('no such luck');",
  });
  try {
    const checked = await runCli({ args: ["check"], cwd: path });
    expect(checked).toMatchObject({ code: 1, stdout: "" });
    expect(checked.stderr).toMatch(/databases\.main: guard "writes" needs the control schema/);
    expect(checked.stderr).toMatch(/databases\.main\.listenUrl: .*ECONNREFUSED/);
    expect(checked.stderr).toMatch(/tenants\.module: .*no such luck/);
    expect(checked.stderr).not.toContain("hunter2");
    const examined = await runCli({ args: ["doctor"], cwd: path });
    expect(examined.code).toBe(1);
    expect(examined.stdout).toMatch(/^fail {2}database main: control schema version 0/m);
    expect(examined.stdout).toMatch(/^fail {2}listenUrl of database main: /m);
    expect(examined.stdout).not.toContain("hunter2");
    expect(await runCli({ args: ["serve"], cwd: path })).toMatchObject({ code: 1 });
  } finally {
    await remove();
  }
});

it("check says what to do with a module in a package that calls its files CommonJS", async () => {
  const { path, remove } = await directoryWith({
    "package.json": JSON.stringify({ type: "commonjs" }),
    "rowhouse.config.ts": "export default {};",
  });
  try {
    const { code, stderr } = await runCli({ args: ["check"], cwd: path });
    expect(code).toBe(1);
    expect(stderr).toMatch(/cannot be loaded: .*; give it the ending \.mts/);
  } finally {
    await remove();
  }
});

it("check and doctor name two tenants of the control table that claim one host, each in a spelling of its own", async () => {
  await database.execute(`insert into rowhouse.tenant (id, hosts, schemas) values
    ('acme', '{münchen.example}', '["a"]'), ('globex', '{xn--mnchen-3ya.example}', '["g"]')`);
  const config = {
    databases: { main: { url: database.hostUrl, install: false } },
    tenants: { table: { database: "main" } },
  };
  const { path, remove } = await directoryWith({ "rowhouse.config.json": JSON.stringify(config) });
  try {
    const said = "tenants: tenants acme and globex both claim the host xn--mnchen-3ya.example";
    const checked = await runCli({ args: ["check"], cwd: path });
    expect(checked.code).toBe(0);
    expect(checked.stdout).toContain(`${said}\n`);
    expect((await runCli({ args: ["doctor"], cwd: path })).stdout).toContain(`warn  ${said}\n`);
  } finally {
    await remove();
    await database.execute("delete from rowhouse.tenant");
  }
});
