/** Every regular expression of the project runs in time proportional to its text: another could stop a thread and all its tenants. */
import { check } from "recheck";
import { describe, expect, it } from "vitest";
import { type Pattern, patternsIn, patternsOf } from "../support/patterns.ts";

/** Patterns that are not linear, or cannot be judged, each with the reason why text from outside that reaches it is short. */
const exceptions: Readonly<Record<string, string>> = {};

const shown = ({ source, flags }: Pattern): string => `/${source ?? "…"}/${flags}`;

/** recheck's verdict on `pattern`, with counts and a seed instead of clocks. */
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

  // If recheck's native program does not run, its JavaScript version takes a quarter of a minute.
  it("takes time proportional to its text", { timeout: 240_000 }, async () => {
    expect(all.length).toBeGreaterThan(50);
    expect(await faultsOf(all)).toEqual([]);
  });

  it("in the list of exceptions exists", () => {
    const there = new Set(all.map(shown));
    expect(Object.keys(exceptions).filter((text) => !there.has(text))).toEqual([]);
  });
});

describe("these tests recognise", () => {
  const of = (text: string): string[] => patternsOf({ path: "src/x.ts", text }).map(shown);

  it.each([
    ["a literal", "const a = /x+/g;", "/x+/g"],
    ["a literal in a call", 'text.replace(/x+/, "");', "/x+/"],
    ["a RegExp", 'const a = new RegExp("x+", "u");', "/x+/u"],
    ["a RegExp without new", 'const a = RegExp("x+");', "/x+/"],
    ["parts in a template", `const a = 'x'; const b = new RegExp(\`^\${a}+$\`);`, "/^x+$/"],
    ["parts with a plus", "const a = 'x'; const b = new RegExp('^' + a + '+');", "/^x+/"],
    ["the source of another", `const a = /x/.source; const b = new RegExp(\`\${a}+\`);`, "/x+/"],
    ["a list", "const a = new RegExp(['x', 'y'].join('|'));", "/x|y/"],
    ["a string that becomes a pattern", 'text.match("x+");', "/x+/"],
    ["a pattern that is not constant", "const a = (b: string) => new RegExp(b);", "/…/"],
  ])("%s", (_, text, expected) => {
    expect(of(text)).toContain(expected);
  });

  it.each([
    ["quadratic time", "/([a-z]+:)x*@/", "vulnerable"],
    ["exponential time", "/^(a+)+$/", "vulnerable"],
    ["ambiguous alternatives", '/^(?:;c=(?:[a-z]*|"[ -~]*"))*$/', "vulnerable"],
    ["linear time", "/^[a-z]+$/", "safe"],
  ])("%s", async (_, literal, expected) => {
    const [pattern] = patternsOf({ path: "src/x.ts", text: `const a = ${literal};` });
    expect(pattern === undefined ? "none" : await verdict(pattern)).toBe(expected);
  });
});
