import { describe, expect, it } from "vitest";
import { hostileHost, outcomes } from "../../support/hostile-host.ts";

const hostile = hostileHost({ routing: ["path:/t/:tenant", "host", "header:x-tenant"] });

const crlf = "\r\n";
const own = "200";
const bad = "400 BAD_REQUEST";
const body = JSON.stringify({ query: '{ sameLabel(given: "canary_acme negotiated") }' });
const query = encodeURIComponent('{ sameLabel(given: "canary_acme in an address") }');

const asked = (more: readonly string[], path = "/graphql"): string =>
  [
    `POST ${path} HTTP/1.1`,
    "Host: acme.example",
    "Content-Type: application/json",
    `Content-Length: ${body.length}`,
    "Connection: close",
    ...more,
    "",
    body,
  ].join(crlf);

describe("GET is refused for a URL", () => {
  const typename = encodeURIComponent("{ __typename }");
  it.each<[string, string]>([
    ["with a query", `/graphql?query=${typename}`],
    ["with two queries", `/graphql?query=${typename}&query=${query}`],
    ["with a list of queries", `/graphql?query[]=${typename}`],
    ["with a query of a prototype", `/graphql?__proto__[query]=${typename}`],
    [
      "with a mutation",
      `/graphql?query=${encodeURIComponent('mutation { addItem(input: { label: "x" }) { result { rowId } } }')}`,
    ],
    [
      "with a mutation beside a query",
      `/graphql?operationName=M&query=${encodeURIComponent('query Q { __typename } mutation M { addItem(input: { label: "x" }) { result { rowId } } }')}`,
    ],
    [
      "with a document's hash",
      "/graphql?extensions=%7B%22persistedQuery%22%3A%7B%22version%22%3A1%2C%22sha256Hash%22%3A%22a%22%7D%7D",
    ],
    ["with a document id", "/graphql?documentId=..%2f..%2fetc%2fpasswd"],
    ["with malformed variables", `/graphql?query=${typename}&variables=%7B`],
    ["with variables that are a string", `/graphql?query=${typename}&variables=%22x%22`],
    ["with a tenant", `/graphql?tenant=globex&x-tenant=globex&host=globex.example&query=${query}`],
    ["with a NUL", `/graphql?query=%00`],
    ["with bytes that are not UTF-8", `/graphql?query=%ff%fe`],
    ["with an incomplete percent escape", `/graphql?query=${typename}%`],
    ["with a thousand parameters", `/graphql?${"a=b&".repeat(1_000)}query=${typename}`],
  ])("%s", async (_, path) => {
    const text = [`GET ${path} HTTP/1.1`, "Host: acme.example", "Connection: close", "", ""].join(crlf);
    expect(outcomes(await hostile.at.host.raw(text, "acme"))).toEqual(["405 METHOD_NOT_ALLOWED"]);
  });
});

describe("an answer", () => {
  it.each<[string, string]>([
    ["application/json,", own],
    [",, ,", own],
    ["application/json ; q=0.9 , a/b", own],
    ["application/json;q=2", bad],
    ["application", bad],
    ['a/b;c="', bad],
    ["application/json; charset", bad],
    ["application/graphql-response+json;q=0, application/json", own],
    // grafserv treats a weight of 0 as the lowest preference, not as a refusal.
    ["application/json;q=0", own],
    ["*/*;q=0", own],
    ["text/event-stream", "406 BAD_REQUEST"],
    ["multipart/mixed", "406 BAD_REQUEST"],
    ["application/json;charset=utf-16", "406 BAD_REQUEST"],
    ["application/json;q=nan", bad],
    [`${"a/b, ".repeat(2_000)}application/json`, bad],
    ["application/json\t;\tq=1", own],
    ["", own],
  ])("follows Accept: %.40s", async (accept, expected) => {
    const answer = await hostile.at.host.raw(asked([`Accept: ${accept}`]), "acme");
    expect(outcomes(answer)).toEqual([expected]);
  });

  it.each(["http://evil.test", "null", "http://acme.example.evil.test"])(
    "to a page of %s allows no cross-origin access",
    async (origin) => {
      const preflight = [
        "OPTIONS /graphql HTTP/1.1",
        "Host: acme.example",
        `Origin: ${origin}`,
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization",
        "Connection: close",
        "",
        "",
      ].join(crlf);
      for (const text of [preflight, asked([`Origin: ${origin}`])]) {
        expect(await hostile.at.host.raw(text, "acme")).not.toMatch(/^access-control-allow/im);
      }
    },
  );
});

it("names and headers cannot forge a log line", async () => {
  const forged = '%0a{"level":50,"msg":"forged"}%0d%1b[31m';
  await hostile.at.host.raw(asked([], `/t/${forged}/graphql`), null);
  await hostile.at.host.raw(asked(['X-Request-Id: "}{"msg":"forged', "User-Agent: \x7f\xff{"]), "acme");
  expect(hostile.at.host.process.linesOf("forged")).toEqual([]);
  expect(hostile.at.host.process.stdout).not.toMatch(/^\{"level":50,"msg":"forged"/m);
});

it("none of this changes any tenant's data, decision or cell", () => hostile.assertUntouched());
