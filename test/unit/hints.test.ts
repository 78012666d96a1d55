import {
  GraphQLEnumType,
  GraphQLError,
  GraphQLObjectType,
  GraphQLSchema,
  GraphQLString,
  parse,
  validate,
} from "postgraphile/graphql";
import { describe, expect, it } from "vitest";
import { hidingHints, withoutHint } from "../../workers/request/hints.ts";

describe("a hint", () => {
  it.each([
    [
      'Field "nam" is not defined by type "A". Did you mean "name"?',
      'Field "nam" is not defined by type "A".',
    ],
    ['x. Did you mean "a" or "b"?', "x."],
    ['x. Did you mean "a", "b", or "c"?', "x."],
    ['x. Did you mean the enum value "A_B" or "C"?', "x."],
    ['x. Did you mean to use an inline fragment on "A", "B", "C", "D", or "E"?', "x."],
    ['x. Did you mean "a { ... }"?', "x."],
    ['got " Did you mean "a"?"; x. Did you mean "b"?', 'got " Did you mean "a"?"; x.'],
  ])("at the end of %j is removed", (message, rest) => {
    expect(withoutHint(message)).toBe(rest);
  });

  it.each([
    'got " Did you mean "a"?" instead of an integer.',
    "Did you mean it?",
    'x. Did you mean "a b"?',
    'x. Did you mean "a"? No.',
    'x. Did you mean "a',
  ])("is not found in %j", (message) => {
    expect(withoutHint(message)).toBe(message);
  });

  it("is found in time linear in the text", () => {
    // Either would be a trillion steps for a pattern that begins again at each place.
    for (const filling of [' Did you mean "a'.repeat(70_000), ` Did you mean "${'a", "'.repeat(250_000)}`]) {
      expect(withoutHint(filling)).toBe(filling);
    }
  });

  it("is recognised in each form in which GraphQL.js writes it", () => {
    const Size = new GraphQLEnumType({ name: "Size", values: { SMALL: {}, SMALLER: {} } });
    const Thing = new GraphQLObjectType({ name: "Thing", fields: { name: { type: GraphQLString } } });
    const query = new GraphQLObjectType({
      name: "Query",
      fields: { thing: { type: Thing, args: { size: { type: Size }, sizes: { type: Size } } } },
    });
    const schema = new GraphQLSchema({ query });
    const document = parse(
      "{ thin { name } thing(siz: SMALL) { nam } b: thing(size: SMAL) { ...f } c: thing } fragment f on Thin { name }",
    );
    const hinted = validate(schema, document).filter(({ message }) => message.includes("Did you mean"));
    expect(hinted).toHaveLength(6);
    for (const { message } of hinted) expect(withoutHint(message)).not.toContain("Did you mean");
  });
});

it("is left in a field's error, and a request's error keeps its locations and extensions", () => {
  const mask = hidingHints((error) => error);
  const message = 'x. Did you mean "a"?';
  const ofField = new GraphQLError(message, { path: ["a"] });
  expect(mask(ofField)).toBe(ofField);
  const nodes = parse("{ thing }").definitions;
  const ofRequest = mask(new GraphQLError(message, { nodes, extensions: { code: "X" } }));
  expect(ofRequest).toEqual(new GraphQLError("x.", { nodes, extensions: { code: "X" } }));
  expect(ofRequest).toMatchObject({ message: "x.", locations: [{ line: 1, column: 1 }] });
  expect(hidingHints(() => ({ message, extensions: {} }))(ofField)).toMatchObject({ message });
  expect(hidingHints(() => ({ message, extensions: {} }))(new GraphQLError("y"))).toEqual({
    message: "x.",
    extensions: {},
  });
});
