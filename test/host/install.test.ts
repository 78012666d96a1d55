import { escapeIdentifier } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { directoryWith } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

let database: TenantDatabase;
const tenants: TenantRecord[] = [];

beforeAll(async () => {
  database = await createTenantDatabase("install");
  for (const id of ["acme", "globex"]) tenants.push(await database.tenant(id));
});

afterAll(() => database.drop());

/** A config that connects as the owner of tenants' schemas. */
const asOwner = (more: object = {}) => ({
  databases: { main: { url: database.url } },
  tenants,
  pooling: true,
  ...more,
});

async function run(args: readonly string[], config: object) {
  const { path, remove } = await directoryWith({ "rowhouse.config.json": JSON.stringify(config) });
  try {
    return await runCli({ args, cwd: path });
  } finally {
    await remove();
  }
}

describe("rowhouse install", () => {
  it("installs only once, and reports the installed version", async () => {
    const url = new URL(database.url);
    const name = `${database.name}_fresh`;
    await database.query(`create database ${escapeIdentifier(name)}`);
    try {
      url.pathname = `/${name}`;
      const config = asOwner({ databases: { main: { url: url.href } }, tenants: [] });
      const first = await run(["install"], config);
      expect(first).toMatchObject({ code: 0, stderr: "" });
      expect(first.stdout).toMatch(
        /^database main: control schema installed, now version \d+, event triggers created\n$/,
      );
      const again = await run(["install"], config);
      expect(again).toMatchObject({ code: 0, stderr: "" });
      expect(again.stdout).toMatch(/already at version \d+, event triggers in place\n$/);

      // The host's own role may not install in this one: that is reported, and the other database is still handled.
      const bare = new URL(database.hostUrl);
      bare.pathname = "/postgres";
      const both = { main: { url: bare.href }, other: { url: url.href } };
      const partly = await run(["install"], asOwner({ databases: both, tenants: [] }));
      expect(partly.code).toBe(1);
      expect(partly.stdout).toMatch(/database main: control schema not installed/);
      expect(partly.stdout).toMatch(/database other: control schema already at/);
      expect(partly.stderr).toMatch(/run "rowhouse install" as a role that may create schemas/);
      expect(partly.stdout + partly.stderr).not.toContain(database.password);
    } finally {
      await database.query(`drop database ${escapeIdentifier(name)} with (force)`);
    }
  });
});

describe("rowhouse doctor", () => {
  const cells = { memoryMb: 700, heapMb: 192, max: 2 };

  it("reports only ok for a correct setup", async () => {
    const databases = { main: { url: database.hostUrl, install: false } };
    const { code, stdout, stderr } = await run(["doctor"], asOwner({ databases, cells }));
    expect({ code, stderr }, stdout).toEqual({ code: 0, stderr: "" });
    const lines = stdout.trim().split("\n");
    for (const line of lines) expect(line).toMatch(/^ok {4}\S/);
    for (const words of [
      /PostgreSQL \d+/,
      /control schema version/,
      /only the privileges it needs/,
      /2 in the source/,
      /connections of main/,
      /memory: 2 cells/,
    ]) {
      expect(stdout).toMatch(words);
    }
  });

  it("fails for a superuser, an unreachable database and oversized pools, and shows no password", async () => {
    const databases = {
      main: { url: database.url, poolSize: 1000 },
      gone: { url: "postgres://nobody:hunter2@127.0.0.1:1/none" },
    };
    const { code, stdout, stderr } = await run(["doctor"], asOwner({ databases, cells }));
    expect(code).toBe(1);
    for (const words of [
      /^fail {2}database main: the connecting role \S+ is a superuser/m,
      /^fail {2}database gone: .*cannot be reached/m,
      /^fail {2}connections of main: 2 cells × poolSize 1000/m,
    ]) {
      expect(stdout).toMatch(words);
    }
    expect(stdout + stderr).not.toContain("hunter2");
  });
});
