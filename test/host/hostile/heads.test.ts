import { describe, expect, it } from "vitest";
import { itemsOf, itemsQuery } from "../../support/host-tenants.ts";
import { hostileHost, outcome } from "../../support/hostile-host.ts";

const hostile = hostileHost({ routing: ["path:/t/:tenant", "host", "header:x-tenant"] });

const body = JSON.stringify({ query: itemsQuery });

/** A complete request for items, with these lines in its head. */
const ask = (lines: readonly string[], path = "/graphql"): string =>
  [
    `POST ${path} HTTP/1.1`,
    "Content-Type: application/json",
    `Content-Length: ${body.length}`,
    "Connection: close",
    ...lines,
    "",
    body,
  ].join("\r\n");

const bad = "400 BAD_REQUEST";
const unknown = "404 TENANT_UNKNOWN";

describe("a Host header", () => {
  it.each<[string, string[], string, (string | null)?]>([
    ["of a tenant", ["Host: acme.example"], "200", "acme"],
    ["in capitals, with dot and port", ["Host: ACME.EXAMPLE.:443"], "200", "acme"],
    ["with two dots", ["Host: acme.example.."], unknown],
    ["with a leading dot", ["Host: .acme.example"], unknown],
    ["that is part of a tenant's", ["Host: example"], unknown],
    ["that extends a tenant's", ["Host: acme.example.evil.test"], unknown],
    ["that is a tenant's with a prefix", ["Host: xacme.example"], unknown],
    ["that is missing", [], bad],
    ["that is empty", ["Host:"], bad],
    ["twice, different", ["Host: acme.example", "Host: globex.example"], bad],
    ["twice, the same", ["Host: acme.example", "Host: acme.example"], bad],
    ["twice, in two cases", ["Host: acme.example", "hOST: globex.example"], bad],
    ["with a list", ["Host: acme.example, globex.example"], bad],
    ["with a space", ["Host: acme.example globex.example"], bad],
    ["with a tab", ["Host: acme\t.example"], bad],
    ["with a user", ["Host: globex@acme.example"], bad],
    ["with a path", ["Host: acme.example/globex"], bad],
    ["with a query", ["Host: acme.example?globex.example"], bad],
    ["with a fragment", ["Host: acme.example#globex.example"], bad],
    ["percent-encoded", ["Host: %61cme.example"], bad],
    ["with an encoded NUL", ["Host: acme.example%00.globex.example"], bad],
    ["with a NUL", ["Host: acme.example\0"], bad],
    ["with a bare CR", ["Host: acme.example\rHost: globex.example"], bad],
    ["with raw UTF-8", ["Host: acm\xc3\xa9.example"], bad],
    ["with a full-width letter", ["Host: \xef\xbd\x81cme.example"], bad],
    ["in unknown punycode", ["Host: xn--cme-5cd.example"], unknown],
    ["with an invalid port", ["Host: acme.example:99999"], bad],
    ["with a port of letters", ["Host: acme.example:http"], bad],
    ["with a backslash", ["Host: acme.example\\globex.example"], bad],
    ["with an underscore", ["Host: acme_example"], unknown],
    ["of an invalid IPv6 address", ["Host: [::acme]"], bad],
    ["of a number", ["Host: 2130706433"], unknown],
    ["of a kilobyte", [`Host: ${"a".repeat(1_000)}.example`], unknown],
    ["of twenty kilobytes", [`Host: ${"a".repeat(20_000)}`], bad],
    ["with SQL", [`Host: acme.example'; drop schema "canary_acme" cascade; --`], bad],
    ["on two lines", ["Host: acme", " .example"], bad],
    ["with a space before the colon", ["Host : acme.example"], bad],
  ])("%s is %s", async (_, lines, expected, tenant = null) => {
    const answer = await hostile.at.host.raw(ask(lines), tenant);
    expect(outcome(answer)).toBe(expected);
    if (tenant !== null) expect(answer).toContain(JSON.stringify(itemsOf(tenant)));
  });

  it.each([
    "X-Forwarded-Host: globex.example",
    "X-Forwarded-Host: globex.example\r\nX-Forwarded-Proto: https",
    "Forwarded: host=globex.example",
    "X-Host: globex.example",
    "X-Original-Host: globex.example",
    "X-HTTP-Host-Override: globex.example",
    "X-Original-URL: /t/globex/graphql",
    "X-Rewrite-URL: /t/globex/graphql",
    "X-Forwarded-Prefix: /t/globex",
    "X-HTTP-Method-Override: DELETE",
    "X_Tenant: globex",
    "X-Tenant: globex",
    "X-Tenant-Id: globex",
    "Origin: http://globex.example",
    "Referer: http://globex.example/t/globex/",
    "Cookie: x-tenant=globex; tenant=globex",
    "Connection: Host",
    "Content-Location: /t/globex/graphql",
    "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "__proto__: globex",
    "constructor: globex",
  ])("is obeyed, and not %j", async (line) => {
    const answer = await hostile.at.host.raw(ask(["Host: acme.example", line]), "acme");
    expect(outcome(answer)).toBe("200");
    expect(answer).toContain(JSON.stringify(itemsOf("acme")));
  });
});

describe("an X-Tenant header", () => {
  it.each<[string, string[], string, (string | null)?]>([
    ["of a tenant", ["X-Tenant: globex"], "200", "globex"],
    ["twice, different", ["X-Tenant: acme", "X-Tenant: globex"], unknown],
    ["twice, the same", ["X-Tenant: acme", "X-Tenant: acme"], unknown],
    ["that is empty", ["X-Tenant:"], unknown],
    ["in capitals", ["X-Tenant: ACME"], unknown],
    ["with quotes", ['X-Tenant: "acme"'], unknown],
    ["with a quote", ["X-Tenant: acme'"], unknown],
    ["with a comment", ["X-Tenant: acme--"], unknown],
    ["with a statement", ['X-Tenant: acme"; drop schema "canary_acme" cascade; --'], unknown],
    ["with dollars", ["X-Tenant: $$acme$$"], unknown],
    ["with a parameter", ["X-Tenant: $1"], unknown],
    ["with a wildcard", ["X-Tenant: %"], unknown],
    ["with a star", ["X-Tenant: *"], unknown],
    ["with a path", ["X-Tenant: ../acme"], unknown],
    ["percent-encoded", ["X-Tenant: %61cme"], unknown],
    ["with a list", ["X-Tenant: acme,globex"], unknown],
    ["with a semicolon", ["X-Tenant: acme;globex"], unknown],
    ["of an array", ['X-Tenant: {"acme","globex"}'], unknown],
    ["of JSON", ['X-Tenant: {"$ne":null}'], unknown],
    ["of a prototype", ["X-Tenant: __proto__"], unknown],
    ["of a method", ["X-Tenant: toString"], unknown],
    ["with UTF-8", ["X-Tenant: acm\xc3\xa9"], unknown],
    ["with a NUL", ["X-Tenant: acme\0"], bad],
    ["with a bell", ["X-Tenant: acme\x07"], bad],
    ["with a folded second header", ["X-Tenant: acme\r\n X-Tenant: globex"], bad],
    ["of sixty-four letters", [`X-Tenant: ${"a".repeat(64)}`], unknown],
    ["of ten kilobytes", [`X-Tenant: ${"a".repeat(10_000)}`], unknown],
  ])("%s is %s", async (_, lines, expected, tenant = null) => {
    const answer = await hostile.at.host.raw(ask(["Host: nobody.test", ...lines]), tenant);
    expect(outcome(answer)).toBe(expected);
    if (tenant !== null) expect(answer).toContain(JSON.stringify(itemsOf(tenant)));
  });
});

const paths: readonly [string, string, string?][] = [
  ["/t/acme/graphql", "200", "acme"],
  ["/t/%61cme/graphql", "200", "acme"],
  ["/T/acme/graphql", unknown],
  ["/t/ACME/graphql", unknown],
  ["/t//graphql", bad],
  ["/t/acme//graphql", bad],
  ["/t/acme/../globex/graphql", bad],
  ["/t/acme/%2e%2e/globex/graphql", bad],
  ["/t/acme/..%2fglobex/graphql", bad],
  ["/t/acme/..;/globex/graphql", "404 NOT_FOUND"],
  ["/t/acme%00/graphql", bad],
  ["/t/acme%0d%0aX-Tenant:globex/graphql", unknown],
  ["/t/acme%20/graphql", unknown],
  ["/t/acme'--/graphql", unknown],
  ['/t/acme"/graphql', unknown],
  ["/t/acme;globex/graphql", unknown],
  ["/t/%2561cme/graphql", unknown],
  ["/t/%ff/graphql", unknown],
  ["/t/acme%/graphql", bad],
  ["/t/acm\xc3\xa9/graphql", bad],
  ["/t/acme/graphql/", "404 NOT_FOUND"],
  ["/t/acme/graphql%20", "404 NOT_FOUND"],
  ["/t/acme/GraphQL", "404 NOT_FOUND"],
  ["/t/acme", "404 NOT_FOUND"],
  ["/t/acme/t/globex/graphql", "404 NOT_FOUND"],
  ["http://globex.example/graphql", bad],
  ["//globex.example/graphql", bad],
  ["globex.example:80", bad],
  ["*", bad],
  ["/t/acme\\..\\globex/graphql", bad],
  ["/t/acme/graphql#/t/globex", bad],
  [`/t/${"a/".repeat(5_000)}graphql`, unknown],
  [`/${"a".repeat(17_000)}`, bad],
];

describe("a path", () => {
  const named = paths.map(([path, ...rest]) => [path.slice(0, 60), path, ...rest] as const);
  it.each(named)("%s", async (_, path, expected, tenant) => {
    const answer = await hostile.at.host.raw(ask(["Host: nobody.test"], path), tenant ?? null);
    expect(outcome(answer)).toBe(expected);
    if (tenant !== undefined) expect(answer).toContain(JSON.stringify(itemsOf(tenant)));
  });
});

it("none of this changes any tenant's data, decision or cell", () => hostile.assertUntouched());
