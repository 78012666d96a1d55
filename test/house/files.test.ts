import { describe, expect, it } from "vitest";
import manifest from "../../package.json" with { type: "json" };
import { coreFiles } from "../support/core-files.ts";
import { filesIn } from "../support/source-files.ts";

const folders = ["src", "workers", "bench", "test"];
const all = filesIn();
const code = all.filter(
  ({ path }) => path.endsWith(".ts") && folders.some((folder) => path.startsWith(`${folder}/`)),
);

describe("a file", () => {
  it("has at most 400 lines", () => {
    const long = code
      .map(({ path, text }) => ({ path, lines: text.split("\n").length - 1 }))
      .filter(({ lines }) => lines > 400);
    expect(long).toEqual([]);
  });

  it("has a name in kebab-case", () => {
    const odd = code.filter(({ path }) => !/^(?:[a-z0-9-]+\/)*[a-z0-9-]+(?:\.test|\.d)?\.ts$/.test(path));
    expect(odd.map(({ path }) => path)).toEqual([]);
  });

  it("is named after a noun of the field, not utils, helpers, common or manager", () => {
    const vague = code.filter(({ path }) => /(?:^|[/-])(?:utils?|helpers?|common|managers?)[./-]/.test(path));
    expect(vague.map(({ path }) => path)).toEqual([]);
  });

  it("names no place outside the project", () => {
    // Joined here, or this file would itself be found.
    const places = [
      ["..", "shared"],
      ["", "work", "main"],
      ["", "tmp", "rw"],
    ].map((parts) => parts.join("/"));
    // Imports of src/shared: the folder of that name inside the project.
    const bare = (text: string): string => text.replace(/"(?:\.\.\/)+shared\/[^"]*\.ts"/g, "");
    const found = all.filter(
      ({ path, text }) =>
        !path.endsWith("package-lock.json") && places.some((place) => bare(text).includes(place)),
    );
    expect(found.map(({ path }) => path)).toEqual([]);
  });
});

describe("the list of tests that run on PostgreSQL 15 as well", () => {
  it("names files that exist", () => {
    const named = coreFiles.map(
      (glob) => new RegExp(`^${glob.replaceAll(".", "\\.").replaceAll("*", "[^/]*")}$`),
    );
    const missing = coreFiles.filter((_, index) => !all.some(({ path }) => named[index]?.test(path)));
    expect(missing).toEqual([]);
  });
});

describe("a dependency", () => {
  it("is pinned to one version", () => {
    const loose = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies }).filter(
      ([, version]) => !/^\d+\.\d+\.\d+(?:-[\w.]+)?$/.test(version),
    );
    expect(loose).toEqual([]);
  });
});
