import { expect, it } from "vitest";
import { type ErrorCode, HostError } from "../../src/shared/kernel/errors.ts";
import { fakeFleets } from "./fake-fleets.ts";
import { codeOf, Gate } from "./witness.ts";

const start = fakeFleets();

const current = async (): Promise<boolean> => true;

it("a failed build is not repeated for each request: all get its error, with a time to retry", async () => {
  const fake = start();
  fake.blueprints.set("acme", { settings: { fail: true } });
  const asking = Array.from({ length: 20 }, () => codeOf(fake.ask("acme")));
  expect(new Set(await Promise.all(asking))).toEqual(new Set(["BUILD_FAILED"]));
  const later = Array.from({ length: 20 }, () => fake.lease("acme").catch((thrown: unknown) => thrown));
  for (const error of await Promise.all(later)) {
    expect(error).toMatchObject({ code: "BUILD_FAILED", retryAfterSeconds: 1 });
    expect(error).toMatchObject({ message: expect.stringMatching(/held back for 1 s.*as told/) });
  }
  expect(fake.all("build.started")).toHaveLength(1);
  // Other keys do not wait for it.
  expect((await fake.ask("globex")).tenant).toBe("globex");
});

it("an unshareable build is recorded even if its client has gone, unless its schema changed meanwhile", async () => {
  const fake = start();
  for (const [key, verify] of [
    ["acme", current],
    ["stale@globex", async () => false],
  ] as const) {
    using gate = new Gate();
    fake.blueprints.set(key.split("@").at(-1) ?? "", { settings: { fail: "unshareable", gate: gate.name } });
    const leaving = new AbortController();
    const asking =
      key === "acme" ? codeOf(fake.ask(key, "/echo", "", leaving.signal)) : codeOf(fake.lease(key, verify));
    await gate.arrived;
    leaving.abort(new HostError("CANCELLED"));
    if (key === "acme") expect(await asking).toBe("CANCELLED");
    gate.open();
    if (key !== "acme") expect(await asking).toBe("SCHEMA_CHANGED");
    else await expect.poll(() => fake.unshareable).toHaveLength(1);
  }
  expect(fake.unshareable).toHaveLength(1);
});

it("a key that could not be built is tried again after the pause, and is served as soon as it can be built", async () => {
  const fake = start();
  fake.blueprints.set("acme", { settings: { fail: true } });
  expect(await codeOf(fake.ask("acme"))).toBe("BUILD_FAILED");
  fake.blueprints.delete("acme");
  for (;;) {
    const code = await codeOf(fake.ask("acme"));
    if (code === "none") break;
    expect(code).toBe("BUILD_FAILED");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(fake.all("build.started")).toHaveLength(2);
});

it("a key that could not be built is tried again at once only for a tenant whose schemas have changed", async () => {
  const fake = start();
  fake.blueprints.set("shared", { settings: { fail: true } });
  for (const name of ["a", "b", "c"]) expect(await codeOf(fake.lease(`${name}@shared`))).toBe("BUILD_FAILED");
  // A single tenant's failure may be its own fault; two tenants' failures are the key's.
  expect(fake.all("build.started")).toHaveLength(2);
  expect(await codeOf(fake.lease("c@shared", current, "2"))).toBe("BUILD_FAILED");
  expect(fake.all("build.started")).toHaveLength(3);
  for (const name of ["a", "b", "d"]) expect(await codeOf(fake.lease(`${name}@shared`))).toBe("BUILD_FAILED");
  expect(fake.all("build.started")).toHaveLength(3);
  fake.blueprints.delete("shared");
  (await fake.lease("c@shared", current, "3")).release();
  // An instance that serves one of them serves all.
  (await fake.lease("a@shared")).release();
  expect(fake.all("build.started")).toHaveLength(4);
});

it("a key that could not be built is tried again at once if an operator asks for it", async () => {
  const fake = start();
  fake.blueprints.set("acme", { settings: { fail: true } });
  expect(await codeOf(fake.ask("acme"))).toBe("BUILD_FAILED");
  const { key } = fake.spec("acme");
  fake.blueprints.delete("acme");
  expect(fake.fleet.tryAgain((held) => held !== key)).toBe(0);
  expect(await codeOf(fake.ask("acme"))).toBe("BUILD_FAILED");
  expect(fake.fleet.tryAgain((held) => held === key)).toBe(1);
  expect((await fake.ask("acme")).tenant).toBe("acme");
});

it.each<[string, () => Promise<boolean>, ErrorCode]>([
  ["changed", async () => false, "SCHEMA_CHANGED"],
  ["is gone", () => Promise.reject(new HostError("SCHEMA_NOT_FOUND")), "SCHEMA_NOT_FOUND"],
  ["is locked", () => Promise.reject(new HostError("LOCK_TIMEOUT")), "LOCK_TIMEOUT"],
  [
    "cannot be asked for",
    () => Promise.reject(new HostError("DATABASE_UNREACHABLE")),
    "DATABASE_UNREACHABLE",
  ],
])("a build that fails while its schema %s says so, and holds back no request", async (_, verify, code) => {
  const fake = start();
  fake.blueprints.set("shared", { settings: { fail: true } });
  for (let tries = 1; tries <= 3; tries += 1) {
    expect(await codeOf(fake.lease("a@shared", verify))).toBe(code);
    expect(fake.all("build.started")).toHaveLength(tries);
  }
  fake.blueprints.delete("shared");
  (await fake.lease("b@shared")).release();
});

it("a failed build that a change has overtaken is tried again with the current schema", async () => {
  const fake = start();
  let overtaken = 0;
  fake.blueprints.set("acme", {
    settings: { fail: true },
    verify: async () => {
      overtaken += 1;
      // Meanwhile it is fixed.
      fake.blueprints.delete("acme");
      return false;
    },
  });
  expect((await fake.ask("acme")).tenant).toBe("acme");
  expect(overtaken).toBe(1);
  expect(fake.all("build.started")).toHaveLength(2);
});
