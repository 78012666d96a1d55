import { afterEach, expect, it, vi } from "vitest";

/** What stands in for koffi. */
let koffi: () => unknown = () => undefined;
vi.mock("node:module", () => ({ createRequire: () => () => koffi() }));
const { MallocTrim } = await import("../../src/shared/memory/malloc-trim.ts");

afterEach(() => {
  koffi = () => undefined;
});

const fail = (): never => {
  throw new Error("broken");
};
const withTrim = (async: unknown) => (): unknown => ({ load: () => ({ func: () => ({ async }) }) });

it.each<[string, () => unknown, boolean]>([
  ["is not installed", fail, false],
  ["is something else", () => "koffi", false],
  ["finds no C library of that name", () => ({ load: fail }), false],
  ["finds no such function in it", () => ({ load: () => ({ func: fail }) }), false],
  ["calls nothing on another thread", withTrim(undefined), false],
  ["throws when it is called", withTrim(fail), true],
])("if koffi %s, a trim does nothing and fails nobody", async (_, broken, trims) => {
  koffi = broken;
  const allocator = new MallocTrim();
  expect(allocator.trims).toBe(trims && process.platform === "linux");
  await allocator.trim();
  await allocator.trim();
});

it("if koffi reports an error, the trim ends and the next one is made", async () => {
  let calls = 0;
  koffi = withTrim((_pad: number, done: (error: unknown) => void) => {
    calls += 1;
    done(new Error("broken"));
  });
  const allocator = new MallocTrim();
  await allocator.trim();
  await allocator.trim();
  expect(calls).toBe(process.platform === "linux" ? 2 : 0);
});
