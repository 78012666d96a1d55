import { parse } from "postgraphile/graphql";
import { describe, expect, test } from "vitest";
import { mostFields, selectedFields } from "../../workers/complexity.ts";

function fanOut(levels: number): string {
  const fragments = Array.from(
    { length: levels },
    (_, level) =>
      `fragment f${level} on Query { a: query { ...f${level + 1} } b: query { ...f${level + 1} } }`,
  );
  return `{ ...f0 } ${fragments.join(" ")} fragment f${levels} on Query { leaf }`;
}

describe("an operation's fields", () => {
  test.each([
    ["{ a b { c d } }", 4],
    ["query A { a } query B { a b }", 2],
    ["{ a ... { b c } ... on Query { d } }", 4],
    ["{ ...f ...f } fragment f on Query { a b }", 4],
    ["{ ...missing }", 0],
    ["{ ...f } fragment f on Query { a ...f }", 1],
    [fanOut(3), 2 + 4 + 8 + 8],
  ])("%s selects %i", (text, fields) => {
    expect(selectedFields(parse(text))).toBe(fields);
  });

  test("are counted in linear time, however often fragments are spread", () => {
    expect(selectedFields(parse(fanOut(60)))).toBeGreaterThan(2 ** 60);
    expect(selectedFields(parse(fanOut(9)))).toBeLessThan(mostFields);
    expect(selectedFields(parse(fanOut(11)))).toBeGreaterThan(mostFields);
  });
});
