import { dirname } from "node:path";
import { describe, expect, it } from "vitest";
import { type Module, modulesIn, parseModule } from "../support/source-files.ts";

const threadPackages = /^(?:postgraphile|grafast|grafserv|graphile-.+|@dataplan\/.+|@graphile\/.+)$/;

type Side = "shared" | "front" | "thread";

function sideOf(path: string): Side {
  if (path.startsWith("workers/")) return "thread";
  return path.startsWith("src/shared/") ? "shared" : "front";
}

/** The forbidden imports of `module`: front and threads share `src/shared`, and nothing else. */
function offences({ path, files, packages }: Module): string[] {
  const side = sideOf(path);
  // What is not code (a package.json, an .sql file) is on neither side.
  const forbidden = files.filter(
    (file) => file.endsWith(".ts") && sideOf(file) !== "shared" && sideOf(file) !== side,
  );
  const foreign = side === "thread" ? [] : packages.filter((name) => threadPackages.test(name));
  return [...forbidden, ...foreign].map((target) => `${path} imports ${target}`);
}

/** The imports of `modules` as those of their folders. */
function folders(modules: readonly Module[]): Pick<Module, "path" | "files">[] {
  return [...Map.groupBy(modules, ({ path }) => dirname(path))].map(([path, inside]) => ({
    path,
    files: [...new Set(inside.flatMap(({ files }) => files.map((file) => dirname(file))))].filter(
      (folder) => folder !== path,
    ),
  }));
}

/** A cycle in the imports of `modules`, as a list of paths; undefined if there is none. */
function cycleIn(modules: readonly Pick<Module, "path" | "files">[]): string[] | undefined {
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
  it("is found by these tests", () => {
    expect(modules.length).toBeGreaterThan(20);
  });

  it("does not import across front and threads, and imports PostGraphile only in threads", () => {
    expect(modules.flatMap(offences)).toEqual([]);
  });

  it("has no import cycles between files or folders, types included", () => {
    expect(cycleIn(modules)).toBeUndefined();
    expect(cycleIn(folders(modules))).toBeUndefined();
  });

  it("has no file that only re-exports", () => {
    expect(modules.filter(({ barrel }) => barrel).map(({ path }) => path)).toEqual([]);
  });

  it("is not imported by the black-box tests", () => {
    const tests = modulesIn("test").filter(({ path }) => path.startsWith("test/host/"));
    const inside = tests.filter(({ files }) => files.some((file) => /^(?:src|workers)\//.test(file)));
    expect(inside.map(({ path }) => path)).toEqual([]);
  });

  it("uses the console only in the command line", () => {
    const speakers = modules.filter(
      ({ path, text }) => !/^src\/cli[/.]/.test(path) && /\bconsole\s*[.[]/.test(text),
    );
    expect(speakers.map(({ path }) => path)).toEqual([]);
  });
});

describe("these tests recognise", () => {
  const at = (path: string, text: string): string[] => offences(parseModule({ path, text }));

  it.each([
    ["a value", 'import { a } from "../fleet/fleet.ts";'],
    ["a type", 'import type { A } from "../fleet/fleet.ts";'],
    ["a re-export", 'export { a } from "../fleet/fleet.ts";'],
    ["a re-export of everything", 'export * from "../fleet/fleet.ts";'],
    ["an import at run time", 'const a = await import("../fleet/fleet.ts");'],
    ["an import in a type", 'type A = import("../fleet/fleet.ts").A;'],
    ["an import for its effects", 'import "../fleet/fleet.ts";'],
  ])("%s from the front in shared code", (_, text) => {
    expect(at("src/shared/x.ts", text)).toEqual(["src/shared/x.ts imports src/fleet/fleet.ts"]);
    expect(at("src/http/x.ts", text)).toEqual([]);
  });

  it("imports across front and threads", () => {
    expect(at("src/fleet/x.ts", 'import "../../workers/main.ts";')).toHaveLength(1);
    expect(at("src/shared/kernel/x.ts", 'import "../../../workers/main.ts";')).toHaveLength(1);
    expect(at("workers/x.ts", 'import "../src/tenants/tenant.ts";')).toHaveLength(1);
    expect(
      at(
        "workers/x.ts",
        'import "../src/shared/protocol/messages.ts"; import "./thread.ts"; import "grafast";',
      ),
    ).toEqual([]);
    expect(at("src/fleet/x.ts", 'import "postgraphile/grafast";')).toHaveLength(1);
    expect(at("src/shared/x.ts", 'import "@dataplan/pg";')).toHaveLength(1);
  });

  it("folders that import each other through different files", () => {
    const module = (path: string, text: string): Module => parseModule({ path, text });
    const there = module("src/one/a.ts", 'import "../two/b.ts";');
    const back = module("src/two/c.ts", 'import "../one/d.ts";');
    expect(cycleIn([there, back])).toBeUndefined();
    expect(cycleIn(folders([there, back]))).toEqual(["src/one", "src/two", "src/one"]);
  });

  it("a cycle and a barrel file", () => {
    const a = parseModule({
      path: "src/postgres/a.ts",
      text: 'import type { B } from "./b.ts"; export const a = 1;',
    });
    const b = parseModule({ path: "src/postgres/b.ts", text: 'export { a } from "./a.ts";' });
    expect(cycleIn([a, b])).toEqual(["src/postgres/a.ts", "src/postgres/b.ts", "src/postgres/a.ts"]);
    expect([a.barrel, b.barrel]).toEqual([false, true]);
  });
});
