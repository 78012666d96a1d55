/** No function is longer than a screen, or takes more parameters than can be told apart by position. */
import { describe, expect, it } from "vitest";
import { functionsOf, type SizedFunction } from "../support/functions.ts";
import { filesIn } from "../support/source-files.ts";

const maxLines = 60;
const maxParameters = 4;

type Size = Partial<Pick<SizedFunction, "lines" | "parameters">>;

/** Functions over a limit, by file and name, each with its maximum size. The list may only get shorter. */
const exceptions: Readonly<Record<string, Size>> = {
  // A callback whose signature is jsonc-parser's.
  "src/config/syntax.ts onError": { parameters: 5 },
  // A method whose signature is @dataplan/pg's.
  "workers/instance/rowhouse-plugin.ts <anonymous>": { parameters: 5 },
  "workers/postgres/adaptor.ts servingAdaptor": { lines: 188 },
};

const nameOf = ({ path, name }: SizedFunction): string => `${path} ${name}`;

/** Why each of `functions` is too large, except as `excepted` allows. */
function faultsOf(functions: readonly SizedFunction[], excepted: Readonly<Record<string, Size>>): string[] {
  return functions.flatMap((each) => {
    const { lines = maxLines, parameters = maxParameters } = excepted[nameOf(each)] ?? {};
    const place = `${each.path}:${each.line} ${each.name}`;
    return [
      ...(each.lines > lines ? [`${place} has ${each.lines} lines`] : []),
      ...(each.parameters > parameters ? [`${place} has ${each.parameters} parameters`] : []),
    ];
  });
}

describe("a function", () => {
  const all = ["src", "workers"]
    .flatMap((folder) => filesIn(folder))
    .filter(({ path }) => path.endsWith(".ts"))
    .flatMap((file) => functionsOf(file));

  it("has at most 60 lines and 4 parameters", () => {
    expect(all.length).toBeGreaterThan(1000);
    expect(faultsOf(all, exceptions)).toEqual([]);
  });

  it("in the list of exceptions exists and is over the limit", () => {
    const over = new Set(all.filter((each) => faultsOf([each], {}).length > 0).map(nameOf));
    expect(Object.keys(exceptions).filter((name) => !over.has(name))).toEqual([]);
  });
});

describe("these tests recognise", () => {
  const of = (text: string): SizedFunction[] => functionsOf({ path: "src/x.ts", text });
  const five = "a: 1, { b }: C, c = 2, d?: 3, ...e: 4[]";

  it.each([
    ["a declaration", `function f(${five}) {}`],
    ["an exported function", `export async function f(${five}): Promise<void> {}`],
    ["an arrow", `const f = (${five}) => 1;`],
    ["an arrow whose variable has a type", `const f: F = (${five}) => 1;`],
    ["a function expression", `const f = function (${five}) {};`],
    ["a method of a class", `class A { f(${five}) {} }`],
    ["a static method", `class A { static async f(${five}) {} }`],
    ["a field of a class", `class A { f = (${five}) => 1; }`],
    ["a method of an object", `const a = { f(${five}) {} };`],
    ["a property of an object", `const a = { f: (${five}) => 1 };`],
    ["an assigned function", `let f; f = (${five}) => 1;`],
    ["a generator", `function* f(${five}) {}`],
    ["a nested function", `function g() { return function f(${five}) {}; }`],
  ])("the parameters of %s", (_, text) => {
    expect(faultsOf(of(text), {})).toEqual(["src/x.ts:1 f has 5 parameters"]);
    expect(faultsOf(of(text), { "src/x.ts f": { parameters: 5 } })).toEqual([]);
    expect(faultsOf(of(text), { "src/x.ts f": { parameters: 4, lines: 99 } })).toHaveLength(1);
  });

  it("a constructor, and a callback without a name", () => {
    expect(faultsOf(of(`class A { constructor(${five}) {} }`), {})).toEqual([
      "src/x.ts:1 constructor has 5 parameters",
    ]);
    expect(faultsOf(of(`f((${five}) => 1)`), {})).toEqual(["src/x.ts:1 <anonymous> has 5 parameters"]);
  });

  it("no parameter in `this`, and no function in a type", () => {
    expect(faultsOf(of("function f(this: A, a: 1, b: 2, c: 3, d: 4) {}"), {})).toEqual([]);
    expect(of(`type F = (${five}) => void; interface A { f(${five}): void }`)).toEqual([]);
  });

  it("one line too many, counted from the function's first line to its last", () => {
    const long = (count: number): string => `\n\nconst f = () => {\n${"  g();\n".repeat(count - 2)}};\n`;
    expect(faultsOf(of(long(60)), {})).toEqual([]);
    expect(faultsOf(of(long(61)), {})).toEqual(["src/x.ts:3 f has 61 lines"]);
    expect(faultsOf(of(long(61)), { "src/x.ts f": { lines: 61 } })).toEqual([]);
    expect(faultsOf(of(long(62)), { "src/x.ts f": { lines: 61 } })).toEqual(["src/x.ts:3 f has 62 lines"]);
  });
});
