import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type FakedProject, fakedProject } from "../support/faked-versions.ts";
import { TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

const ids = ["t0", "t1"] as const;
/** Packages on whose versions only patches for speed depend. */
const forSpeed = ["@dataplan/pg", "grafast", "graphile-build", "graphile-config", "transliteration"];
const plain = [
  "abort-reason",
  "behavior-matches",
  "change-texts",
  "export-marks",
  "lone-reads",
  "middleware",
  "plan-cache",
  "planning-time",
  "select-texts",
  "single-reads",
  "single-writes",
  "transliteration",
];

let database: TenantDatabase;
let project: FakedProject;

beforeAll(async () => {
  database = await createTenantDatabase("versions");
  const config = {
    databases: { main: { url: database.hostUrl, install: false } },
    tenants: [
      await database.tenant("t0"),
      await database.tenant("t1", "create table extra (id int primary key)"),
    ],
    listen: { port: 0 },
    admin: { port: 0 },
    cells: { memoryMb: 700, heapMb: 192, max: 2, instanceHeapMb: 16, quarantineShare: 1 },
  };
  project = await fakedProject({ "host.json": JSON.stringify(config) });
});
afterAll(async () => {
  await project.remove();
  await database.drop();
});

const run = (command: string) =>
  runCli({ args: [command, "--config", "host.json"], cwd: project.path, cli: project.cli });

const patchLines = (text: string): string[] =>
  text.split("\n").filter((line) => / patch(?:es| \S+): /.test(line));

describe("with unknown versions of PostGraphile's packages", () => {
  beforeAll(async () => {
    for (const name of forSpeed) await project.fake(name, "99.0.0");
  });
  afterAll(async () => {
    for (const name of forSpeed) await project.fake(name, null);
  });

  it("every tenant gets the same answers, with one warning per patch however many threads build, and a metric", async () => {
    const host = await TestHost.start({
      config: {},
      directory: project.path,
      cli: project.cli,
      connected: database.connected,
    });
    for (const id of ids) {
      expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
      const added = await host.data(
        id,
        `mutation { createPart(input: { part: { itemId: 1, name: "canary_${id} new" } }) { part { rowId name itemByItemId { label } } } }`,
      );
      expect(added.createPart.part).toEqual({
        rowId: 4,
        name: `canary_${id} new`,
        itemByItemId: { label: `canary_${id} one` },
      });
    }
    expect(host.process.linesOf("build.done").length).toBeGreaterThan(1);
    const warnings = host.process.linesOf("patch.state");
    expect(warnings.map(({ name }) => name).toSorted()).toEqual(plain);
    for (const { level, state, reason } of warnings) {
      expect([level, state]).toEqual(["warn", "plain"]);
      expect(reason).toMatch(/99\.0\.0 was not tested .*npm install --save-exact \S+@\d/);
    }
    for (const name of plain) {
      expect(await host.metric(`patches{name="${name}",state="plain"}`)).toBe(1);
      expect(await host.metric(`patches{name="${name}",state="applied"}`)).toBe(0);
    }
    expect(await host.metric('patches{name="scoped-introspection",state="applied"}')).toBe(1);
    await host.stop();
  });

  it("doctor warns of each patch that is left out", async () => {
    const { code, stdout } = await run("doctor");
    expect(code).toBe(0);
    const [summary, ...lines] = patchLines(stdout);
    expect(summary).toMatch(/^ok +patches: \d+ of \d+ /);
    expect(lines.map((line) => /^warn +patch ([\w-]+): plain: /.exec(line)?.[1]).toSorted()).toEqual(plain);
  });
});

describe.each(["graphile-build-pg", "grafserv"])("with an unknown version of %s", (name) => {
  beforeAll(() => project.fake(name, "99.0.0"));
  afterAll(() => project.fake(name, null));

  it.each(["serve", "check"])("%s fails and says what to install", async (command) => {
    const { code, stderr } = await run(command);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      new RegExp(`${name} 99\\.0\\.0 was not tested .*npm install --save-exact ${name}@\\d`),
    );
  });

  it("doctor fails", async () => {
    const { code, stdout } = await run("doctor");
    expect(code).toBe(1);
    expect(patchLines(stdout).filter((line) => line.startsWith("fail")).length).toBeGreaterThan(0);
  });
});

it("with the known versions, doctor reports that all patches are applied", async () => {
  const { stdout } = await run("doctor");
  const [summary, ...others] = patchLines(stdout);
  expect(summary).toMatch(/^ok +patches: (\d+) of \1 /);
  expect(others).toEqual([]);
});
