import { createRequire } from "node:module";
import { expect, it } from "vitest";
import { deferTransliteration } from "../../workers/graphile/transliteration.ts";

const load = createRequire(import.meta.url);
const path = createRequire(createRequire(load.resolve("postgraphile")).resolve("graphile-build")).resolve(
  "transliteration",
);
const names = ["", " a  b ", "foo_bar", "Größe", "価格", "naïve-1", "\n"];

it("non-ASCII letters are looked up in the dictionary itself, which is loaded for the first name that needs it", async () => {
  const real = load(path);
  const ascii = String.fromCharCode(...Array.from({ length: 95 }, (_, index) => 32 + index));
  expect(real.transliterate(ascii)).toBe(ascii);
  const expected = names.map((name) => real.transliterate(name));
  delete load.cache[path];

  deferTransliteration();
  const standIn = load.cache[path];
  const { defaultPreset } = await import("postgraphile/graphile-build");
  const { inflection } = defaultPreset.plugins?.find(({ name }) => name === "TransliterationPlugin") ?? {};
  const coerce: unknown = inflection?.replace?.coerceToGraphQLName;
  if (typeof coerce !== "function") throw new Error("PostGraphile spells names in another way");
  const spell = (name: string): unknown => Reflect.apply(coerce, {}, [undefined, {}, name]);
  expect(spell(ascii)).toBe(ascii);
  expect(load.cache[path]).toBe(standIn);

  expect(names.map(spell)).toEqual(expected);
  expect(load.cache[path]).not.toBe(standIn);
});

it("code that configures the dictionary, or uses another part of it, gets the whole of it", async () => {
  delete load.cache[path];
  deferTransliteration();
  const { transliterate, slugify } = await import(path);
  expect(slugify("a b")).toBe("a-b");
  transliterate.config({ replace: [["a", "o"]] });
  try {
    expect(transliterate("banana")).toBe("bonono");
  } finally {
    transliterate.config({});
  }
  expect(transliterate("b", { replace: [["b", "c"]] })).toBe("c");
});

it("a module that is already loaded is left alone", () => {
  const loaded = load.cache[path];
  deferTransliteration();
  expect(load.cache[path]).toBe(loaded);
  deferTransliteration("file:///nowhere/at/all.js");
});
