import { describe, expect, it } from "vitest";
import { assertFewValues, assertFewValuesIn } from "../../workers/request/variables.ts";

const limits = { variables: 20_000, variablesDepth: 64 };
/** Long enough to be looked at, without a value more. */
const filling = " ".repeat(40_000);

/** Whether what the text holds is refused: unparsed, and parsed. */
function refusals(variables: string): { text: boolean; value: boolean } {
  const refused = (work: () => void): boolean => {
    try {
      work();
      return false;
    } catch {
      return true;
    }
  };
  const body = `{"query":"{ a }",${filling}"variables":${variables}}`;
  return {
    text: refused(() => assertFewValuesIn(body, limits)),
    value: refused(() => assertFewValues(JSON.parse(body).variables, limits)),
  };
}

const list = (count: number, item: string): string => `{"v":[${Array(count).fill(item).join()}]}`;
const lists = (levels: number): string => `{"v":${"[".repeat(levels)}${"]".repeat(levels)}}`;

describe("the text of a request", () => {
  it.each<[string, string]>([
    ["19,000 numbers", list(19_000, "1")],
    ["19,000 empty lists", list(19_000, "[]")],
    ["19,000 empty objects with blanks", list(19_000, "{ \n }")],
    ["9,000 lists of one", list(9_000, "[null]")],
    ["a text full of brackets and commas", `{"v":${JSON.stringify("[{,".repeat(30_000))}}`],
    ["texts with quotes and backslashes", list(10_000, JSON.stringify('\\"[,\\\\'))],
    ["a text that ends in backslashes", `{"v":[${JSON.stringify("\\".repeat(40_001))},1]}`],
    ["63 levels", lists(63)],
  ])("with %s is accepted, as its value is", (_, variables) => {
    expect(refusals(variables)).toEqual({ text: false, value: false });
  });

  it.each<[string, string]>([
    ["20,100 numbers", list(20_100, "1")],
    ["20,100 empty lists", list(20_100, "[]")],
    ["10,100 lists of one", list(10_100, "[1]")],
    ["20,100 texts", list(20_100, '"\\""')],
    ["20,100 names", `{${Array.from({ length: 20_100 }, (_, n) => `"v${n}":1`).join()}}`],
    ["66 levels", lists(66)],
  ])("with %s is refused, as its value is", (_, variables) => {
    expect(refusals(variables)).toEqual({ text: true, value: true });
  });

  it("that is no object is refused as such", () => {
    for (const text of ["[", "1", '"', ""]) {
      expect(() => assertFewValuesIn(text + filling, limits)).toThrow("not a JSON object");
    }
  });

  it("that is malformed JSON is left to the parser", () => {
    for (const text of ['{"', "{]]]]", `{"a": "${"\\".repeat(40_000)}`, `{${"}".repeat(40_000)}`]) {
      expect(() => assertFewValuesIn(text + filling, limits)).not.toThrow();
    }
  });
});
