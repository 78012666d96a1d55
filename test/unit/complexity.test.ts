import { parse } from "postgraphile/graphql";
import { describe, expect, test } from "vitest";
import { extentOf } from "../../workers/request/complexity.ts";

function fanOut(levels: number): string {
  const fragments = Array.from(
    { length: levels },
    (_, level) =>
      `fragment f${level} on Query { a: query { ...f${level + 1} } b: query { ...f${level + 1} } }`,
  );
  return `{ ...f0 } ${fragments.join(" ")} fragment f${levels} on Query { leaf }`;
}

describe("an operation's extent", () => {
  test.each<[string, number, number]>([
    ["{ a }", 1, 0],
    ["{ a b { c d } }", 4, 1],
    ["query A { a { b } } query B { a b c }", 3, 1],
    ["{ a ... { b c { d } } ... on Query { d } }", 5, 1],
    ["{ ...f ...f } fragment f on Query { a b { c } }", 6, 1],
    ["{ a { ...f } } fragment f on Query { b { c } }", 3, 2],
    ["{ ...missing }", 0, 0],
    ["{ ...f } fragment f on Query { a { ...f } }", 1, 1],
    [fanOut(3), 2 + 4 + 8 + 8, 3],
    ["{ __schema { types { fields { name } } } a { b } }", 6, 1],
    ["{ ...f } fragment f on Query { __typename }", 1, 0],
  ])("of %s is %i fields, %i deep", (text, fields, depth) => {
    expect(extentOf(parse(text))).toMatchObject({ fields, depth });
  });

  test.each<[string, boolean]>([
    ["{ __typename }", false],
    ["{ a: __schema { queryType { name } } }", true],
    ['{ __type(name: "A") { name } }', true],
    ["{ a ...f } fragment f on Query { query { ... { __schema { description } } } }", true],
    ["query A { a } query B { __schema { description } }", true],
  ])("of %s reports introspection: %s", (text, introspects) => {
    expect(extentOf(parse(text)).introspects).toBe(introspects);
  });

  test("is measured in linear time, however often fragments are spread", () => {
    expect(extentOf(parse(fanOut(60))).fields).toBeGreaterThan(2 ** 60);
    expect(extentOf(parse(fanOut(9)))).toEqual({ fields: 1_534, depth: 9, introspects: false });
  });
});
