/** No logic is written down twice: a second copy is forgotten when the first one is mended. */
import { expect, it } from "vitest";
import { filesIn } from "../support/source-files.ts";

/** From this many lines on, code that differs in names and values alone counts as a copy. */
const span = 6;
/** Copies are closer together than twice their length, comments included. */
const widest = 2 * span;
/** Shorter windows are punctuation: ends of blocks, chains of guards. */
const minCharacters = 110;

const keywords = new Set(
  "if else for of return const let await async new throw try catch finally switch case default function class while typeof null undefined true false break continue this".split(
    " ",
  ),
);
/** Imports, fields, ends of blocks and comments, of which there may be any number alike. */
const ignored = /^(?:\/?\*|\/\/|import|readonly|type |export \{|[)\]}])/;

interface Line {
  readonly number: number;
  readonly text: string;
}

/** The lines of a file that do something, with every name and every value replaced by the same one. */
function linesOf(text: string): Line[] {
  return text.split("\n").flatMap((raw, index) => {
    const line = raw.trim();
    if (ignored.test(line)) return [];
    const alike = line
      .replaceAll(/"[^"]*"|`[^`]*`/g, "s")
      .replaceAll(/\b\d[\d_]*\b/g, "n")
      .replaceAll(/#?\b[A-Za-z_$][\w$]*/g, (word) => (keywords.has(word) ? word : "x"));
    return /[a-wyz]/.test(alike) ? [{ number: index + 1, text: alike }] : [];
  });
}

interface Source {
  readonly path: string;
  readonly text: string;
}

/** Every place whose next lines are those of an earlier place. */
function copiesIn(sources: readonly Source[]): string[] {
  const first = new Map<string, { readonly path: string; readonly line: number }>();
  const copies: string[] = [];
  for (const { path, text } of sources) {
    const lines = linesOf(text);
    for (let start = 0; start + span <= lines.length; start += 1) {
      const window = lines.slice(start, start + span);
      const [from = 0, to = 0] = [window[0]?.number, window.at(-1)?.number];
      const key = window.map((line) => line.text).join("\n");
      if (to - from >= widest || key.length < minCharacters) continue;
      const known = first.get(key);
      if (known === undefined) first.set(key, { path, line: from });
      // Windows that overlap are the same lines.
      else if (known.path !== path || from - known.line >= span)
        copies.push(`${path}:${from} is like ${known.path}:${known.line}`);
    }
  }
  return copies;
}

/** Tables of data, whose rows are alike. */
const tables = new Set(["src/shared/kernel/errors.ts"]);

it("no two places of the code share six lines of logic", () => {
  const code = ["src", "workers"].flatMap((folder) => filesIn(folder));
  const sources = code.filter(({ path }) => path.endsWith(".ts") && !tables.has(path));
  expect(sources.length).toBeGreaterThan(200);
  expect(copiesIn(sources)).toEqual([]);
});

it("a copy is seen where its names and values are others, and another logic is none", () => {
  const work = (name: string, value: string): string => `
    const ${name} = await read(${value});
    if (${name} === undefined) throw new HostError(${value});
    const both = [...${name}, ...${name}.filter((each) => each !== ${value})];
    for (const one of both) await send(one, ${value}, { wait: true });
    if (both.length > 3) return both.map((one) => one.text).join(${value});
    return ${name}.text;`;
  const one = { path: "src/one.ts", text: work("first", '"a"') };
  expect(copiesIn([one, { path: "src/two.ts", text: work("second", '"b"') }])).toHaveLength(1);
  const other = work("second", '"b"').replace("=== undefined) throw", "!== undefined) return");
  expect(copiesIn([one, { path: "src/two.ts", text: other }])).toEqual([]);
});
