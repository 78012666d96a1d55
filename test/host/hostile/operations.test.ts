import { describe, expect, it } from "vitest";
import { itemsOf, itemsQuery } from "../../support/host-tenants.ts";
import { hostileHost } from "../../support/hostile-host.ts";

const hostile = hostileHost();

const json = "application/json";
const bad = "400 BAD_REQUEST";
const complex = "400 OPERATION_TOO_COMPLEX";
/** GraphQL's own error, without a code: `application/json` has it with 200. */
const own = "200";

/** Posts a body as acme: resolves to the status and the code, if any, and asserts that there is no data. */
async function post(body: string, type = json, headers: Record<string, string> = {}): Promise<string> {
  const answer = await hostile.at.host.send("/graphql", {
    method: "POST",
    headers: { "x-tenant": "acme", "content-type": type, accept: json, ...headers },
    body,
  });
  const { data, errors } = JSON.parse(answer.text);
  expect(Object.values(data ?? {}).filter((value) => value !== null)).toEqual([]);
  expect(errors.length).toBeGreaterThan(0);
  const code = errors[0].extensions?.code;
  return code === undefined ? String(answer.status) : `${answer.status} ${code}`;
}
const ask = (query: string, variables?: unknown): Promise<string> =>
  post(JSON.stringify({ query, variables }));

describe("a body", () => {
  it.each<[string, string, string]>([
    ["of nothing", "", bad],
    ["of a space", " ", bad],
    ["of half an object", '{"query":"{ __typename', bad],
    ["of null", "null", bad],
    ["of true", "true", bad],
    ["of a number", "1", bad],
    ["of a string", '"{ __typename }"', bad],
    ["of a list", "[]", bad],
    ["of a batch", `[{"query":"{ __typename }"},{"query":"{ __typename }"}]`, bad],
    ["of a batch of thousands", `[${'{"query":"{ __typename }"},'.repeat(5_000)}1]`, bad],
    ["of half a million brackets", "[".repeat(500_000), bad],
    ["of half a million braces", '{"a":'.repeat(190_000), "400 VARIABLES_TOO_LARGE"],
    ["without a query", '{"variables":{}}', bad],
    ["with a query of null", '{"query":null}', bad],
    ["with a query of a number", '{"query":1}', bad],
    ["with a query of a list", '{"query":["{ __typename }"]}', bad],
    ["with a query of an object", '{"query":{"toString":"x"}}', bad],
    ["with an empty query", '{"query":""}', own],
    ["with a query of white space", '{"query":"  \\n\\t"}', own],
    ["with a query of a NUL", '{"query":"\\u0000{ __typename }"}', own],
    ["with a query with half a surrogate pair", '{"query":"{ a(b: \\"\\ud800\\") }"}', own],
    ["with variables of a list", '{"query":"{ __typename }","variables":[]}', bad],
    ["with variables of a string", '{"query":"{ __typename }","variables":"{}"}', bad],
    ["with variables of a number", '{"query":"{ __typename }","variables":7}', bad],
    ["with an operationName of a number", '{"query":"{ __typename }","operationName":7}', bad],
    ["with an unknown operationName", '{"query":"{ __typename }","operationName":"__proto__"}', own],
    ["with extensions of a string", '{"query":"{ __typename }","extensions":"x"}', bad],
    ["with an unknown error behaviour", '{"query":"{ __typename }","onError":"EXPLODE"}', bad],
    ["of only a persisted query", '{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"a"}}}', bad],
    ["with a prototype", '{"__proto__":{"query":"{ __typename }"}}', bad],
    ["in UTF-16", "\u0000{\u0000}", bad],
    ["with a byte order mark", '\ufeff{"query":"{ nothing }"}', bad],
    ["of two megabytes", `{"query":"${"a".repeat(2_000_000)}"}`, "413 BODY_TOO_LARGE"],
  ])("%s is refused", async (_, body, expected) => {
    expect(await post(body)).toBe(expected);
  });

  it.each<[string, Record<string, string>, string]>([
    ["text/plain", {}, "415 MEDIA_TYPE"],
    ["text/html", {}, "415 MEDIA_TYPE"],
    ["application/x-www-form-urlencoded", {}, "415 MEDIA_TYPE"],
    ["multipart/form-data; boundary=x", {}, "415 MEDIA_TYPE"],
    ["multipart/mixed; boundary=application/json", {}, "415 MEDIA_TYPE"],
    ["application/json, text/plain", {}, "415 MEDIA_TYPE"],
    ["application/json-patch+json", {}, "415 MEDIA_TYPE"],
    ["application/xml", {}, "415 MEDIA_TYPE"],
    ["json", {}, "415 MEDIA_TYPE"],
    ["*/*", {}, "415 MEDIA_TYPE"],
    [json, { "content-encoding": "gzip" }, bad],
    [json, { "content-encoding": "br, identity" }, bad],
    [json, { accept: "text/html" }, bad.replace("400", "406")],
    [json, { accept: "image/png" }, bad.replace("400", "406")],
  ])("of type %s %j is refused", async (type, headers, expected) => {
    expect(await post(JSON.stringify({ query: itemsQuery }), type, headers)).toBe(expected);
  });
});

const aliases = (count: number): string =>
  `{ ${Array.from({ length: count }, (_, n) => `a${n}: allItems { totalCount }`).join(" ")} }`;
const spread = (levels: number): string =>
  `{ ...f0 } ${Array.from({ length: levels }, (_, n) => `fragment f${n} on Query { a: query { ...f${n + 1} } b: query { ...f${n + 1} } }`).join(" ")} fragment f${levels} on Query { __typename }`;

describe("an operation", () => {
  it.each<[string, string, string]>([
    ["of a brace", "{", own],
    ["of empty braces", "{}", own],
    ["of SQL", "DROP TABLE item", own],
    ["with an unknown field", "{ nobody }", own],
    ["with a table of another schema", "{ allCanaryGlobexItems { nodes { label } } }", own],
    ["of a mutation without its input", "mutation { addItem { result { rowId } } }", own],
    ["of a subscription", "subscription { items { rowId } }", bad],
    ["of two without a name", "{ __typename } { __typename }", own],
    ["of two with one name", "query A { __typename } query A { __typename }", own],
    ["of fragments alone", "fragment f on Query { __typename }", own],
    ["of a fragment that contains itself", "{ ...f } fragment f on Query { ...f }", own],
    [
      "of fragments in a cycle",
      "{ ...a } fragment a on Query { query { ...b } } fragment b on Query { query { ...a } }",
      own,
    ],
    ["of an unknown fragment", "{ ...gone }", own],
    ["of a fragment on an unknown type", "{ ...f } fragment f on Nobody { a }", own],
    ["of fragments that multiply", spread(40), complex],
    ["of a thousand aliases", aliases(1_000), complex],
    ["of one field forty thousand times", `{ ${"__typename ".repeat(40_000)} }`, complex],
    ["of a hundred levels", `${"{ query ".repeat(100)}{ __typename }${" }".repeat(100)}`, complex],
    ["of a hundred thousand levels", "{ query ".repeat(100_000), complex],
    ["of ten thousand directives", `{ __typename ${"@skip(if: true) ".repeat(10_000)} }`, complex],
    [
      "of ten thousand variables",
      `query (${Array.from({ length: 10_000 }, (_, n) => `$v${n}: Int`).join()}) { __typename }`,
      complex,
    ],
    ["of ten thousand arguments", `{ allItems(${"first: 1 ".repeat(10_000)}) { totalCount } }`, complex],
    ["of deeply nested lists", `{ allItems(first: ${"[".repeat(9_000)}) { totalCount } }`, complex],
    [
      "of ten thousand operations",
      Array.from({ length: 10_000 }, (_, n) => `query q${n} { __typename }`).join(" "),
      complex,
    ],
    [
      "of ten thousand fragments",
      `{ ...f0 } ${Array.from({ length: 10_000 }, (_, n) => `fragment f${n} on Query { __typename }`).join(" ")}`,
      complex,
    ],
    ["of comments alone", "#\n".repeat(200_000), complex],
    ["of an unknown directive", "{ __typename @include @nobody }", own],
    [
      "of introspection that multiplies",
      `{ __schema { types ${"{ fields { type ".repeat(6)}{ name }${" } }".repeat(6)} } }`,
      own,
    ],
    ["with an unterminated string", '{ sameLabel(given: "x) }', own],
    ["with an integer out of range", "{ itemByRowId(rowId: 99999999999999999999) { label } }", own],
    ["with a number of a thousand digits", `{ itemByRowId(rowId: ${"9".repeat(1_000)}) { label } }`, own],
    ["with an enum of SQL", "{ itemsByMood(wanted: DROP) { nodes { label } } }", own],
    ["with an unknown order", "{ allItems(orderBy: [PG_SLEEP_ASC]) { totalCount } }", own],
    [
      "with an invalid cursor",
      '{ allItems(after: "\'; drop schema canary_acme cascade; --") { totalCount } }',
      own,
    ],
    [
      "with a cursor of another order",
      `{ allItems(after: "${Buffer.from('["x",[1]]').toString("base64")}") { totalCount } }`,
      own,
    ],
  ])("%s is refused", async (_, query, expected) => {
    expect(await ask(query)).toBe(expected);
  });
});

const one = "query ($id: Int!) { itemByRowId(rowId: $id) { label } }";
const labelled = "query ($label: Label!) { sameLabel(given: $label) }";

describe("a variable", () => {
  it.each<[string, string, unknown]>([
    ["that is missing", one, {}],
    ["of null", one, { id: null }],
    ["of a string", one, { id: "1; drop table item" }],
    ["of true", one, { id: true }],
    ["of a list", one, { id: [1] }],
    ["of an object", one, { id: { valueOf: 1 } }],
    ["of a fraction", one, { id: 1.5 }],
    ["beyond 32 bits", one, { id: 2 ** 31 }],
    ["below 32 bits", one, { id: -(2 ** 31) - 1 }],
    ["beyond any integer", one, { id: 1e308 }],
    ["of a string with a NUL", labelled, { label: "a\0b" }],
    ["of a string that its domain forbids", labelled, { label: "forbidden" }],
    ["of a string for an enum", "query ($m: Mood!) { nextMood(given: $m) }", { m: "calm'::text; --" }],
    ["of a prototype", "query ($m: Mood!) { nextMood(given: $m) }", { m: "__proto__" }],
    ["of an unknown type", "query ($m: Nobody) { __typename }", { m: 1 }],
  ])("%s is an error, without data", async (_, query, variables) => {
    expect((await ask(query, variables)).replace(/ .*/, "")).toBe("200");
  });

  it.each([5_000, 400_000])(
    "of %i lists nested in one another is an error, without any data",
    async (levels) => {
      const nested = `${"[".repeat(levels)}${"]".repeat(levels)}`;
      const answer = await post(`{"query":${JSON.stringify(labelled)},"variables":{"label":${nested}}}`);
      expect(answer).toBe("400 VARIABLES_TOO_LARGE");
    },
  );

  it.each([
    "'; drop schema canary_acme cascade; --",
    '"; drop schema "canary_acme" cascade; --',
    "$$; drop schema canary_acme cascade; $$",
    "\\'; drop schema canary_acme cascade; --",
    "canary_acme\n--\n; commit; drop schema canary_acme cascade",
    "#{process.exit(1)} `id` $(id)",
    "%s %d %n \u202e",
    "{{7*7}} <script>alert(1)</script>",
    "x".repeat(200_000),
  ])("of hostile text is passed on as plain text: %j", async (label) => {
    const { data } = await hostile.at.host.graphql("acme", labelled, { variables: { label } });
    expect(data).toEqual({ sameLabel: label });
    expect(await hostile.at.host.data("acme", itemsQuery)).toEqual(itemsOf("acme"));
  });
});

it("none of this changes any tenant's data, decision or cell", () => hostile.assertUntouched());
