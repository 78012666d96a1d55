import {
  LIST_TYPES,
  PgExecutor,
  PgInsertSingleStep,
  PgSelectStep,
  PgUpdateSingleStep,
  TYPES,
} from "postgraphile/@dataplan/pg";
import { OperationPlan } from "postgraphile/grafast";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { specOf } from "../../bench/blueprint.ts";
import type { PatchStates } from "../../src/shared/kernel/patch-policy.ts";
import { type PatchName, patches } from "../../workers/graphile/patches.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { patchStates } from "../support/patches.ts";
import { changeCases, keptCases, otherCases, type SelectCase } from "../support/select-cases.ts";
import { Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const preset = new URL("../support/select-preset.ts", import.meta.url).href;
const unread = "99.0.0";
/** Every patch for speed depends on one of these packages; those that safety depends on keep their known version. */
const unknown = {
  "@dataplan/pg": unread,
  grafast: unread,
  "graphile-build": unread,
  "graphile-config": unread,
  "pg-sql2": unread,
  transliteration: unread,
  node: unread,
};
/** Applied by a thread's entry, which these tests do not run. */
const ofEntry: readonly PatchName[] = ["abort-reason", "transliteration", "collections"];
const forSpeed = patches
  .filter(({ purpose, name }) => purpose === "speed" && !ofEntry.includes(name))
  .map(({ name }) => name);

/** The members that are replaced for a whole thread; still the libraries' own, as nothing was built yet. */
const members = (): unknown[] => [
  PgSelectStep.prototype.execute,
  PgInsertSingleStep.prototype.execute,
  PgUpdateSingleStep.prototype.execute,
  Reflect.get(OperationPlan.prototype, "planOperation"),
  Reflect.get(OperationPlan.prototype, "checkTimeout"),
  Object.defineProperties,
];
const [originals, define] = [members(), Object.defineProperties];

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("patches_plain");
});
afterAll(async () => {
  Object.defineProperties = define;
  await database.drop();
});

async function ask(worker: Worker, serv: Awaited<ReturnType<Worker["build"]>>, cases: readonly SelectCase[]) {
  const texts: string[] = [];
  for (const { query, variables } of cases) {
    for (const values of variables) {
      texts.push((await worker.ask(serv, { tenant: "ada", query, variables: values })).text);
    }
  }
  return texts;
}

/** All of ada's answers from an instance of its own, and its rows afterwards. */
async function answers(states: PatchStates): Promise<{ texts: readonly string[]; log: readonly string[] }> {
  await database.execute(`drop schema if exists ada cascade; ${workerTenantSql("ada")}`);
  const worker = new Worker(database, { preset, poolSize: 1, patches: states });
  const serv = await worker.build("pooled", { app: "ada" });
  const reads = [...keptCases.slice(0, 8), ...otherCases.slice(0, 2)];
  const texts = [
    ...(await ask(worker, serv, reads)),
    ...(await ask(worker, serv, reads)),
    ...(await ask(worker, serv, changeCases)),
    ...(await ask(worker, serv, reads)),
    JSON.stringify(await database.query("select * from ada.person order by id")),
  ];
  return { texts, log: worker.log };
}

describe("a patch for speed that is not applied", () => {
  let plain: readonly string[];

  it("leaves the libraries unchanged, and logs nothing in the thread", async () => {
    const states = patchStates(unknown);
    expect(forSpeed.filter((name) => states[name] !== "plain")).toEqual([]);
    const { texts, log } = await answers(states);
    expect(members()).toEqual(originals);
    expect(log.filter((line) => line.startsWith("warn"))).toEqual([]);
    expect(texts.some((text) => text.includes("ada pet 3"))).toBe(true);
    expect(texts.filter((text) => text.startsWith('{"data"')).length).toBeGreaterThan(100);
    plain = texts;
  });

  // Some last as long as the thread, so each case applies one more than the case before.
  it.each(forSpeed.map((name, index) => ({ name, applied: forSpeed.slice(0, index + 1) })))(
    "gives the same answers as one that is applied: $name",
    async ({ applied }) => {
      const inPlace = Object.fromEntries(applied.map((name) => [name, "applied" as const]));
      expect((await answers({ ...patchStates(unknown), ...inPlace })).texts).toEqual(plain);
    },
  );

  it("is reported by a build if the version is known but the patched member is not", async () => {
    const original: unknown = Reflect.get(PgExecutor.prototype, "_execute");
    Object.assign(PgExecutor.prototype, {
      _execute(...args: unknown[]) {
        return Reflect.apply(Object(original), this, args);
      },
    });
    try {
      const worker = new Worker(database, { preset });
      const { unfitPatches } = await worker.instances.build(50, specOf("pooled", { app: "ada" }, 50));
      expect(unfitPatches).toEqual(["single-reads"]);
      const serv = await worker.build("pooled", { app: "ada" });
      expect(
        (await worker.ask(serv, { tenant: "ada", query: "{ personByRowId(rowId: 3) { name } }" })).status,
      ).toBe(200);
    } finally {
      Object.assign(PgExecutor.prototype, { _execute: original });
    }
  });
});

describe("a patch for safety", () => {
  it.each(["graphile-build-pg", "grafserv", "pg", "pg-protocol", "pg-pool", "piscina"])(
    "fails every build if %s has an unknown version",
    async (name) => {
      const worker = new Worker(database, { patches: patchStates({ [name]: unread }) });
      await expect(worker.build("pooled", { app: "ada" })).rejects.toMatchObject({
        code: "BUILD_FAILED",
        message: expect.stringContaining("rowhouse doctor"),
      });
    },
  );

  it("fails every build if @dataplan/pg has no codec for a type whose text form would lose its schema", async () => {
    const { regclass } = TYPES;
    Object.assign(TYPES, { regclass: undefined });
    try {
      const worker = new Worker(database);
      await expect(worker.build("dedicated", { app: "ada" })).rejects.toMatchObject({
        code: "BUILD_FAILED",
        message: expect.stringContaining("regclass"),
      });
    } finally {
      Object.assign(TYPES, { regclass });
      expect(LIST_TYPES.regclass.arrayOfCodec).toBe(regclass);
    }
  });
});
