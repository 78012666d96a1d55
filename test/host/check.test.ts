import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { directoryWith } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";

let database: TenantDatabase;

beforeAll(async () => {
  database = await createTenantDatabase("check");
});

afterAll(() => database.drop());

it("check reports everything that keeps serve from starting: a missing control schema, listenUrl, a module", async () => {
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

it("check says what to do about a module in a package of type commonjs", async () => {
  const { path, remove } = await directoryWith({
    "package.json": JSON.stringify({ type: "commonjs" }),
    "rowhouse.config.ts": "export default {};",
  });
  try {
    const { code, stderr } = await runCli({ args: ["check"], cwd: path });
    expect(code).toBe(1);
    expect(stderr).toMatch(/cannot be loaded: .*; rename it to \.mts/);
  } finally {
    await remove();
  }
});

const url = "postgres://rowhouse:hunter2@db.example/app";

it.each([
  [
    "a superfluous token",
    "rowhouse.config.ts",
    `const url: string = "${url}";\nexport default {\n  a: { url } };\n};\n`,
    ":4:1",
  ],
  ["a missing bracket", "rowhouse.config.mts", `export default { a: "${url}", b: [1, 2 };`, ":1:76"],
  [
    "a missing comma",
    "rowhouse.config.mjs",
    `const secret = "${url}";\nexport default { a: 1 b: 2 };`,
    ":2:23",
  ],
  ["an unterminated string", "rowhouse.config.mjs", `export default {\n  a: "${url}\n};`, ":2:6"],
  [
    "a duplicate declaration",
    "rowhouse.config.ts",
    `const a: number = 1;\nconst a = "${url}";\nexport default {};`,
    ":2:7",
  ],
  ["a missing export", "rowhouse.config.ts", `import { x } from "node:fs";\nexport default { x };`, ":1:10"],
  ["an error that it throws", "rowhouse.config.ts", "\n\n  throw new Error('no such luck');", ":3:9"],
])("check says where in a config module %s is, without quoting the module", async (_, name, text, place) => {
  const { path, remove } = await directoryWith({ [name]: text });
  try {
    const { code, stdout, stderr } = await runCli({ args: ["check"], cwd: path });
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain(`${join(path, name)}${place} cannot be loaded: `);
    expect(stderr).not.toContain("hunter2");
  } finally {
    await remove();
  }
});

it("check says which imported module of the config is at fault", async () => {
  const { path, remove } = await directoryWith({
    "rowhouse.config.ts": `import { a } from "./other.ts";\nexport default { a };`,
    "other.ts": `export const a: number = ;\n`,
  });
  try {
    const { stderr } = await runCli({ args: ["check"], cwd: path });
    expect(stderr).toContain(`${join(path, "other.ts")}:1:26 cannot be loaded: `);
  } finally {
    await remove();
  }
});

it("check and doctor report two tenants of the control table that claim one host in different spellings", async () => {
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
