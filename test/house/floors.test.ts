import { describe, expect, it } from "vitest";
import { type Module, modulesIn, parseModule } from "../support/source-files.ts";

/** The first pattern that fits says on which floor a file stands. */
const floors: readonly (readonly [RegExp, number])[] = [
  [/^src\/kernel\//, 0],
  [/^src\/(?:protocol|shape|connect)\//, 1],
  [/^src\/(?:tenant|pg|guard|auth|observe|config)\//, 2],
  [/^src\/cell\//, 3],
  // The demo is a tenant set like a user's, put there by the composition root.
  [/^src\/(?:http|demo)\//, 4],
  // The composition root, its parts beside it, and the commands that start it.
  [/^src\/(?:cli\/)?[^/]+\.ts$/, 5],
];
const threadFloor = 1;
const threadPackages = /^(?:postgraphile|grafast|grafserv|graphile-.+|@dataplan\/.+|@graphile\/.+)$/;

const floorOf = (path: string): number | undefined => floors.find(([pattern]) => pattern.test(path))?.[1];
const inThreads = (path: string): boolean => path.startsWith("workers/");

/** Why `module` may not import what it does. */
function offences({ path, files, packages }: Module): string[] {
  const floor = inThreads(path) ? threadFloor : floorOf(path);
  if (floor === undefined) return [`${path} stands on no floor`];
  const forbidden = files.filter((file) => {
    if (inThreads(file)) return !inThreads(path);
    const other = floorOf(file);
    // What is not code (a package.json, an .sql file) has no floor.
    return file.endsWith(".ts") && (other === undefined || other > floor);
  });
  const foreign = inThreads(path) ? [] : packages.filter((name) => threadPackages.test(name));
  return [...forbidden, ...foreign].map((target) => `${path} imports ${target}`);
}

/** One of the cycles that the imports of `modules` make, as a list of paths; undefined where there is none. */
function cycleIn(modules: readonly Module[]): string[] | undefined {
  const imports = new Map(modules.map(({ path, files }) => [path, files]));
  const done = new Set<string>();
  const visit = (path: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(path)) return [...way.slice(way.indexOf(path)), path];
    if (done.has(path)) return undefined;
    for (const next of imports.get(path) ?? []) {
      const cycle = visit(next, [...way, path]);
      if (cycle !== undefined) return cycle;
    }
    done.add(path);
    return undefined;
  };
  for (const { path } of modules) {
    const cycle = visit(path, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

const modules = modulesIn("src", "workers");

describe("the code", () => {
  it("is there to be looked at", () => {
    expect(modules.length).toBeGreaterThan(20);
  });

  it("imports only from its own floor and lower ones; PostGraphile only in threads, and threads never from the front", () => {
    expect(modules.flatMap(offences)).toEqual([]);
  });

  it("imports in no circles, types included", () => {
    expect(cycleIn(modules)).toBeUndefined();
  });

  it("has no file that only passes on what others export", () => {
    expect(modules.filter(({ barrel }) => barrel).map(({ path }) => path)).toEqual([]);
  });

  it("is not imported by the black-box tests", () => {
    const tests = modulesIn("test").filter(({ path }) => path.startsWith("test/host/"));
    const inside = tests.filter(({ files }) => files.some((file) => /^(?:src|workers)\//.test(file)));
    expect(inside.map(({ path }) => path)).toEqual([]);
  });

  it("speaks to a console only in the command line", () => {
    const speakers = modules.filter(
      ({ path, text }) => !/^src\/cli[/.]/.test(path) && /\bconsole\s*[.[]/.test(text),
    );
    expect(speakers.map(({ path }) => path)).toEqual([]);
  });
});

describe("these tests see", () => {
  const at = (path: string, text: string): string[] => offences(parseModule({ path, text }));

  it.each([
    ["a value", 'import { a } from "../cell/fleet.ts";'],
    ["a type", 'import type { A } from "../cell/fleet.ts";'],
    ["a re-export", 'export { a } from "../cell/fleet.ts";'],
    ["everything re-exported", 'export * from "../cell/fleet.ts";'],
    ["an import at run time", 'const a = await import("../cell/fleet.ts");'],
    ["an import in a type", 'type A = import("../cell/fleet.ts").A;'],
    ["an import for its effects", 'import "../cell/fleet.ts";'],
  ])("%s from a higher floor", (_, text) => {
    expect(at("src/tenant/x.ts", text)).toEqual(["src/tenant/x.ts imports src/fleet/fleet.ts"]);
    expect(at("src/http/x.ts", text)).toEqual([]);
  });

  it("what crosses between front and threads", () => {
    expect(at("src/cell/x.ts", 'import "../../workers/main.ts";')).toHaveLength(1);
    expect(at("workers/x.ts", 'import "../src/tenant/tenant.ts";')).toHaveLength(1);
    expect(
      at("workers/x.ts", 'import "../src/protocol/messages.ts"; import "./cell.ts"; import "grafast";'),
    ).toEqual([]);
    expect(at("src/cell/x.ts", 'import "postgraphile/grafast";')).toHaveLength(1);
    expect(at("src/cell/x.ts", 'import "@dataplan/pg";')).toHaveLength(1);
    expect(at("src/stray/x.ts", "export const a = 1;")).toEqual(["src/stray/x.ts stands on no floor"]);
  });

  it("a circle and a barrel", () => {
    const a = parseModule({
      path: "src/pg/a.ts",
      text: 'import type { B } from "./b.ts"; export const a = 1;',
    });
    const b = parseModule({ path: "src/pg/b.ts", text: 'export { a } from "./a.ts";' });
    expect(cycleIn([a, b])).toEqual(["src/pg/a.ts", "src/pg/b.ts", "src/pg/a.ts"]);
    expect([a.barrel, b.barrel]).toEqual([false, true]);
  });
});
