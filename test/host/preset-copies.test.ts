import { cp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";
import { type UserProject, userProject } from "../support/user-project.ts";

const own = dirname(createRequire(import.meta.url).resolve("pg-sql2/package.json"));

const amber = 'export { PostGraphileAmberPreset as default } from "postgraphile/presets/amber";';
const withFragment = `import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
  import { sql } from "pg-sql2";
  export default { extends: [PostGraphileAmberPreset], lib: { fragment: sql\`1\` } };`;

let database: TenantDatabase;
let project: UserProject;

beforeAll(async () => {
  database = await createTenantDatabase("copies");
  const config = {
    databases: { main: { url: database.hostUrl, install: false } },
    tenants: [await database.tenant("t0")],
    listen: { port: 0 },
    admin: { port: 0 },
    preset: "./preset.mjs",
  };
  project = await userProject("linked", {
    "rowhouse.config.json": JSON.stringify(config),
    "preset.mjs": amber,
  });
  // The copy that a project gets beside Rowhouse's if it asks for another version.
  const copy = join(project.path, "node_modules/pg-sql2");
  await rm(copy);
  await cp(own, copy, { recursive: true });
  const manifest = JSON.parse(await readFile(join(copy, "package.json"), "utf8"));
  await writeFile(join(copy, "package.json"), JSON.stringify({ ...manifest, version: "99.0.0" }));
});
afterAll(async () => {
  await project.remove();
  await database.drop();
});

describe("a project with a second copy of one of PostGraphile's packages", () => {
  it.each(["serve", "check"])(
    "is refused by %s if its preset loads it, with both locations and the cure",
    async (command) => {
      await writeFile(join(project.path, "preset.mjs"), withFragment);
      const { code, stderr } = await runCli({ args: [command], cwd: project.path });
      expect(code).toBe(1);
      expect(stderr).toMatch(/preset: two copies of a package/);
      expect(stderr).toContain(`99.0.0 in ${await realpath(join(project.path, "node_modules/pg-sql2"))}`);
      expect(stderr).toContain(` in ${await realpath(own)}`);
      expect(stderr).toMatch(/npm install --save-exact postgraphile@\d+\.\d+\.\d+/);
    },
  );

  it("is accepted if nothing loads it", async () => {
    await writeFile(join(project.path, "preset.mjs"), amber);
    expect(await runCli({ args: ["check"], cwd: project.path })).toMatchObject({ code: 0 });
  });
});
