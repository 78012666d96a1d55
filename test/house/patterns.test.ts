/** No regular expression of the project takes more than a time in proportion to its text: such a one stops a thread, and all who are on it. */
import { check } from "recheck";
import { describe, expect, it } from "vitest";
import { type Pattern, patternsIn, patternsOf } from "../support/patterns.ts";

/** Patterns that are not linear, or of which nobody can tell, each with why no text from outside that is longer than so many characters gets there. */
const exceptions: Readonly<Record<string, string>> = {};

const shown = ({ source, flags }: Pattern): string => `/${source ?? "…"}/${flags}`;

/** What recheck thinks of `pattern`, by counts and a seed instead of clocks. */
async function verdict({ source, flags }: Pattern): Promise<string> {
  if (source === null) return "made of more than constants";
  const clocks = { timeout: null, attackTimeout: null, incubationTimeout: null };
  return (await check(source, flags, { ...clocks, randomSeed: 1, maxIteration: 5 })).status;
}

async function faultsOf(patterns: readonly Pattern[]): Promise<string[]> {
  const faults = patterns
    .filter((pattern) => !Object.hasOwn(exceptions, shown(pattern)))
    .map(async (pattern) => {
      const known = await verdict(pattern);
      return known === "safe" ? [] : [`${pattern.path}:${pattern.line} ${shown(pattern)} is ${known}`];
    });
  return (await Promise.all(faults)).flat();
}

describe("a regular expression", () => {
  const all = patternsIn("src", "workers", "bin");

  // Where recheck's native program does not run, its JavaScript takes a quarter of a minute.
  it("takes a time in proportion to its text", { timeout: 240_000 }, async () => {
    expect(all.length).toBeGreaterThan(50);
    expect(await faultsOf(all)).toEqual([]);
  });

  it("that is excepted is there", () => {
    const there = new Set(all.map(shown));
    expect(Object.keys(exceptions).filter((text) => !there.has(text))).toEqual([]);
  });
});

describe("these tests see", () => {
  const of = (text: string): string[] => patternsOf({ path: "src/x.ts", text }).map(shown);

  it.each([
    ["a literal", "const a = /x+/g;", "/x+/g"],
    ["one in a call", 'text.replace(/x+/, "");', "/x+/"],
    ["one that is made", 'const a = new RegExp("x+", "u");', "/x+/u"],
    ["one that is made without new", 'const a = RegExp("x+");', "/x+/"],
    ["parts in a template", `const a = 'x'; const b = new RegExp(\`^\${a}+$\`);`, "/^x+$/"],
    ["parts with a plus", "const a = 'x'; const b = new RegExp('^' + a + '+');", "/^x+/"],
    ["the source of another", `const a = /x/.source; const b = new RegExp(\`\${a}+\`);`, "/x+/"],
    ["a list", "const a = new RegExp(['x', 'y'].join('|'));", "/x|y/"],
    ["a text that becomes one", 'text.match("x+");', "/x+/"],
    ["what nobody can tell", "const a = (b: string) => new RegExp(b);", "/…/"],
  ])("%s", (_, text, expected) => {
    expect(of(text)).toContain(expected);
  });

  it.each([
    ["a square", "/([a-z]+:)x*@/", "vulnerable"],
    ["a power", "/^(a+)+$/", "vulnerable"],
    ["two readings", '/^(?:;c=(?:[a-z]*|"[ -~]*"))*$/', "vulnerable"],
    ["a line", "/^[a-z]+$/", "safe"],
  ])("%s", async (_, literal, expected) => {
    const [pattern] = patternsOf({ path: "src/x.ts", text: `const a = ${literal};` });
    expect(pattern === undefined ? "none" : await verdict(pattern)).toBe(expected);
  });
});
