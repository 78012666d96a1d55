import { describe, expect, it } from "vitest";
import { hostileHost, outcomes } from "../../support/hostile-host.ts";

const hostile = hostileHost({ routing: ["path:/t/:tenant", "host", "header:x-tenant"] });

const crlf = "\r\n";
const json = "application/json";
const own = "200";
const bad = "400 BAD_REQUEST";

const says = (tenant: string): string => `canary_${tenant} in turn`;
const bodyOf = (tenant: string): string =>
  JSON.stringify({ query: `{ sameLabel(given: ${JSON.stringify(says(tenant))}) }` });

/** A request of `tenant` whose answer contains its name. */
const asked = (
  tenant: string,
  more: readonly string[] = [],
  body = bodyOf(tenant),
  path = "/graphql",
): string =>
  [
    `POST ${path} HTTP/1.1`,
    `Host: ${tenant}.example`,
    `Content-Type: ${json}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...more,
    "",
    body,
  ].join(crlf);
const last = ["Connection: close"];
const chunked = (tenant: string): string =>
  [
    "POST /graphql HTTP/1.1",
    `Host: ${tenant}.example`,
    `Content-Type: ${json}`,
    "Transfer-Encoding: chunked",
    "",
    `${bodyOf(tenant).length.toString(16)}`,
    bodyOf(tenant),
    "0",
    "",
    "",
  ].join(crlf);
const got = (tenant: string, path: string): string =>
  [`GET ${path} HTTP/1.1`, `Host: ${tenant}.example`, `Accept: ${json}`, "", ""].join(crlf);
const query = encodeURIComponent('{ sameLabel(given: "canary_acme in turn") }');

/** The tenant named in each answer. */
const names = (received: string): (string | null)[] =>
  received
    .split(/(?=HTTP\/1\.1 \d{3} )/)
    .filter((answer) => !answer.startsWith("HTTP/1.1 100"))
    .map((answer) => /canary_(\w+) in turn/.exec(answer)?.[1] ?? null);

describe("on one connection, each request gets its own tenant's answer:", () => {
  it.each<[string, string, (string | null)[]]>([
    ["two tenants", asked("acme") + asked("globex", last), ["acme", "globex"]],
    [
      "two instances",
      asked("acme") + asked("hooli") + asked("globex") + asked("hooli", last),
      ["acme", "hooli", "globex", "hooli"],
    ],
    ["a chunked one first", chunked("acme") + asked("globex", last), ["acme", "globex"]],
    [
      "a chunked one in between",
      asked("globex") + chunked("acme") + asked("hooli", last),
      ["globex", "acme", "hooli"],
    ],
    [
      "an unknown tenant in between",
      asked("acme") + asked("nobody", [], bodyOf("acme")) + asked("globex", last),
      ["acme", null, "globex"],
    ],
    [
      "an invalid body in between",
      asked("acme") + asked("globex", [], "{") + asked("hooli", last),
      ["acme", null, "hooli"],
    ],
    [
      "an invalid token in between",
      asked("acme") + asked("globex", ["Authorization: Bearer x"]) + asked("hooli", last),
      ["acme", null, "hooli"],
    ],
    [
      "a path that names another",
      asked("acme") + asked("acme", last, bodyOf("globex"), "/t/globex/graphql"),
      ["acme", "globex"],
    ],
    [
      "a header that names another, after a Host that decides",
      asked("acme", ["X-Tenant: globex"]) + asked("globex", ["X-Tenant: acme", ...last]),
      ["acme", "globex"],
    ],
    [
      "a query in the URL, by GET",
      got("acme", `/graphql?query=${query}`) + asked("globex", last),
      [null, "globex"],
    ],
    [
      "one that expects 100-continue",
      asked("acme", ["Expect: 100-continue"]) + asked("globex", last),
      ["acme", "globex"],
    ],
    [
      "forty at once",
      Array.from({ length: 40 }, (_, n) =>
        asked(["acme", "globex", "hooli"][n % 3] ?? "acme", n === 39 ? last : []),
      ).join(""),
      Array.from({ length: 40 }, (_, n) => ["acme", "globex", "hooli"][n % 3] ?? "acme"),
    ],
  ])("%s", async (_, text, expected) => {
    // The sentinel must allow several tenants' names here, so each answer is examined.
    expect(names(await hostile.at.host.raw(text, ["acme", "globex", "hooli"]))).toEqual(expected);
  });
});

describe("an Expect header", () => {
  it.each<[string, string, string[]]>([
    ["for an acceptable body", asked("acme", ["Expect: 100-continue", ...last]), ["100", own]],
    ["in capitals", asked("acme", ["Expect: 100-CONTINUE", ...last]), ["100", own]],
    ["of an unknown kind", asked("acme", ["Expect: the-unexpected", ...last]), ["417 EXPECTATION_FAILED"]],
    ["twice", asked("acme", ["Expect: 100-continue", "Expect: 100-continue", ...last]), ["100", own]],
    [
      "for a body that is too large",
      [
        "POST /graphql HTTP/1.1",
        "Host: acme.example",
        `Content-Type: ${json}`,
        "Content-Length: 99999999",
        "Expect: 100-continue",
        "Connection: close",
        "",
        "",
      ].join(crlf),
      ["413 BODY_TOO_LARGE"],
    ],
  ])("%s", async (_, text, expected) => {
    expect(outcomes(await hostile.at.host.raw(text, "acme"))).toEqual(expected);
  });
});

const twice = (first: string, second: string): string =>
  `{"query":${JSON.stringify(first)},"query":${JSON.stringify(second)}}`;
const one = "query ($id: Int!) { itemByRowId(rowId: $id) { label } }";
const withId = (text: string): string => `{"query":${JSON.stringify(one)},"variables":{"id":${text}}}`;

describe("a body", () => {
  it.each<[string, string, string]>([
    ["with two queries", twice("{ nobody }", "{ __typename }"), own],
    ["with a mutation under a query", twice("{ __typename }", "mutation { nobody }"), own],
    ["with a number out of range", withId("1e400"), own],
    ["with a number that is too long", withId("9".repeat(5_000)), own],
    ["with negative zero", withId("-0"), own],
    ["with NaN", withId("NaN"), bad],
    ["with a number in hexadecimal", withId("0x1"), bad],
    ["with a number with leading zeros", withId("001"), bad],
    ["with a superfluous comma", withId("1,"), bad],
    ["with a comment", `/* a */${withId("1")}`, bad],
    ["with single quotes", "{'query':'{ __typename }'}", bad],
    ["with another object after it", `${withId("1")}{}`, bad],
    ["with a control character", '{"query":"{ __typename }\u0001"}', bad],
    ["with half a surrogate pair", withId('"\\udc00"'), own],
    ["with the key __proto__", `{"query":"{ __typename }","variables":{"__proto__":{"id":1}}}`, own],
    [
      "with the key constructor",
      `{"query":${JSON.stringify(one)},"variables":{"constructor":{"prototype":{"id":1}}}}`,
      own,
    ],
    [
      "with a hundred thousand keys",
      `{${Array.from({ length: 70_000 }, (_, n) => `"k${n}":1`).join()}}`,
      "400 VARIABLES_TOO_LARGE",
    ],
  ])("%s is answered without internals", async (_, body, expected) => {
    const received = await hostile.at.host.raw(asked("acme", [`Accept: ${json}`, ...last], body), "acme");
    expect(outcomes(received)).toEqual([expected]);
    expect(received).not.toMatch(/node_modules|\/workers\/|at .*\(.*:\d+:\d+\)/);
  });
});

it("none of this changes any tenant's data, decision or cell", () => hostile.assertUntouched());
