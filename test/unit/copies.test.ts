import { expect, it } from "vitest";
import { copiesAmong, copiesFor, copiesText, loadedCopies } from "../../src/shared/kernel/copies.ts";

it("files of one package in two places are two copies; files of several packages, or in one place, are not", () => {
  const files = [
    "/a/node_modules/grafast/dist/index.js",
    "/a/node_modules/grafast/dist/steps/load.js",
    "/a/node_modules/@dataplan/pg/dist/index.js",
    "/a/node_modules/x/node_modules/@dataplan/pg/dist/index.js",
    "/a/node_modules/lodash/index.js",
    "/b/node_modules/lodash/index.js",
    "/a/node_modules/.store/graphql@16/node_modules/graphql/index.js",
    "/a/src/grafast/index.js",
    "/a/node_modules",
    "node:fs",
    "",
  ];
  const [copies, ...more] = copiesAmong(files);
  expect(more).toEqual([]);
  expect(copies?.name).toBe("@dataplan/pg");
  expect(copies?.places.map(({ path }) => path)).toEqual([
    "/a/node_modules/@dataplan/pg",
    "/a/node_modules/x/node_modules/@dataplan/pg",
  ]);
});

it("the text names places, versions and the cure", () => {
  const text = copiesText([
    {
      name: "grafast",
      places: [
        { path: "/a", version: "1.0.0" },
        { path: "/b", version: "1.0.1" },
      ],
    },
  ]);
  expect(text).toMatch(
    /grafast 1\.0\.0 in \/a and 1\.0\.1 in \/b\. Keep one: npm install --save-exact postgraphile@5\./,
  );
});

it("this project has one copy of each", () => {
  expect(loadedCopies()).toEqual([]);
  expect(copiesFor(import.meta.url)).toEqual([]);
});
