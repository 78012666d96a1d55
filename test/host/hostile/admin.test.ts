import { describe, expect, it } from "vitest";
import { hostileHost, outcome } from "../../support/hostile-host.ts";
import { rawRequest } from "../../support/http.ts";

const hostile = hostileHost();

const json = "application/json";

/** Status and code of a POST to the admin listener. */
async function post(path: string, body: string | undefined, headers: Record<string, string> = {}) {
  const answer = await hostile.at.host.admin(path, {
    method: "POST",
    headers: { "content-type": json, ...headers },
    ...(body === undefined ? {} : { body }),
  });
  const { code } = JSON.parse(answer.text).errors?.[0]?.extensions ?? {};
  return code === undefined ? String(answer.status) : `${answer.status} ${code}`;
}

const bad = "400 BAD_REQUEST";
const nowhere = "404 NOT_FOUND";
const unknown = "404 TENANT_UNKNOWN";
const failed = "400 MIGRATION_FAILED";
const sql = (text: string): string => JSON.stringify({ sql: text });

describe("the admin listener's", () => {
  it.each<[string, string, string]>([
    ["/evict", "", bad],
    ["/evict", "null", bad],
    ["/evict", "[]", bad],
    ["/evict", '"acme"', bad],
    ["/evict", '{"tenant":null}', bad],
    ["/evict", '{"tenant":["acme"]}', bad],
    ["/evict", '{"tenant":{"$ne":""}}', bad],
    ["/evict", '{"tenant":""}', bad],
    ["/evict", '{"tenant":"*"}', unknown],
    ["/evict", '{"tenant":"acme\'; --"}', unknown],
    ["/evict", '{"tenant":"acme\\u0000"}', unknown],
    ["/evict", '{"tenant":"__proto__"}', unknown],
    ["/evict", '{"cell":"*"}', nowhere],
    ["/evict", '{"cell":"../c1"}', nowhere],
    ["/evict", '{"key":"bp:*"}', nowhere],
    ["/evict", '{"key":"__proto__"}', nowhere],
    ["/evict", '{"__proto__":{"tenant":"acme"}}', bad],
    ["/evict", '{"tenant":"acme","tenant":"globex","key":"x"}', bad],
    ["/evict", `{"tenant":"${"a".repeat(70_000)}"}`, "413 BODY_TOO_LARGE"],
    ["/evict", "[".repeat(30_000), bad],
    ["/flush", "[]", bad],
    ["/flush", "null", bad],
    ["/flush", '{"force":true}', bad],
    ["/flush", "flush", bad],
    ["/evict/", '{"tenant":"acme"}', nowhere],
    ["/EVICT", '{"tenant":"acme"}', nowhere],
    ["/tenants/nobody/migrate", sql("select 1"), unknown],
    ["/tenants/acme%00/migrate", sql("select 1"), bad],
    ["/tenants/acme'--/migrate", sql("select 1"), unknown],
    ["/tenants/ac%2fme/migrate", sql("select 1"), bad],
    ["/tenants/__proto__/migrate", sql("select 1"), unknown],
    ["/tenants/acme/migrate", "{}", bad],
    ["/tenants/acme/migrate", '{"sql":["select 1"]}', bad],
    ["/tenants/acme/migrate", '{"sql":"select 1","as":"postgres"}', bad],
    ["/tenants/acme/migrate", '{"sql":"select 1","expect":"; drop"}', bad],
    ["/tenants/acme/migrate", '{"sql":"select \'\\u0000\'"}', bad],
    ["/tenants/acme/migrate", '{"sql":"select \'\\ud800\'"}', bad],
    ["/tenants/acme/migrate", sql("commit; drop schema canary_globex cascade"), "[45].. .*"],
    ["/tenants/acme/migrate", sql("end; begin; drop schema canary_globex cascade"), "[45].. .*"],
    ["/tenants/acme/migrate", sql("drop schema canary_globex cascade"), failed],
    ["/tenants/acme/migrate", sql("drop schema canary_acme cascade"), failed],
    ["/tenants/acme/migrate", sql("alter role postgres password 'x'"), failed],
    ["/tenants/acme/migrate", sql("copy (select 1) to program 'touch /tmp/owned'"), "[45].. .*"],
    ["/tenants/acme/migrate", sql("select pg_read_file('/etc/passwd')"), failed],
    ["/tenants/acme/migrate", sql("select pg_terminate_backend(pid) from pg_stat_activity"), "[45].. .*|200"],
    ["/tenants/acme/migrate", sql("delete from rowhouse.schema_revision"), failed],
    ["/tenants/acme/migrate", sql("savepoint a; rollback to a"), failed],
    ["/tenants/acme/migrate", sql("\\! touch /tmp/owned"), failed],
    ["/tenants/acme/migrate", sql("'"), failed],
    ["/tenants/acme/migrate", sql("$$"), failed],
    ["/tenants/acme/migrate", sql("/* never ended"), failed],
  ])("%s refuses %s: %s", async (path, body, expected) => {
    expect(await post(path, body)).toMatch(new RegExp(`^(?:${expected})$`));
  });

  it.each<[string, Record<string, string>]>([
    ["another Host", { host: "admin.evil.test" }],
    ["a Host that begins like the loopback address", { host: "127.0.0.1.evil.test" }],
    ["a Host that begins like localhost", { host: "localhost.evil.test:5679" }],
    ["a Host of all zeros", { host: "0.0.0.0" }],
    ["a Host in decimal", { host: "2130706433" }],
    ["a Host in hexadecimal", { host: "0x7f.1" }],
    ["a forwarded address", { "x-forwarded-for": "127.0.0.1" }],
    ["a Forwarded header", { forwarded: "for=127.0.0.1;host=localhost" }],
    ["another site's Origin", { origin: "http://evil.test" }],
    ["a null Origin", { origin: "null" }],
    ["a Sec-Fetch-Site of another site", { "sec-fetch-site": "cross-site" }],
    ["the public listener's Origin", { origin: "http://localhost:5678" }],
    ["a form", { "content-type": "application/x-www-form-urlencoded" }],
    ["plain text", { "content-type": "text/plain" }],
    ["a compressed body", { "content-encoding": "gzip" }],
  ])("commands are refused with %s", async (_, headers) => {
    for (const path of ["/flush", "/evict", "/tenants/acme/migrate"]) {
      expect(await post(path, "{}", headers)).toMatch(/^4(?:01|03|15|00) /);
    }
  });

  it.each([
    "/tenants/../flush",
    "/tenants/%2e%2e/flush",
    "/tenants/%2E./flush",
    "/./flush",
    "//flush",
    "/x/..//flush",
    "http://localhost/flush",
    "/flush#",
    "\\flush",
  ])("commands cannot be reached at %s", async (path) => {
    const port = Number(new URL(hostile.at.host.adminUrl).port);
    const head = `POST ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
    expect(outcome(await rawRequest(port, head))).toBe(bad);
  });

  it.each(["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])("routes refuse %s", async (method) => {
    const port = Number(new URL(hostile.at.host.adminUrl).port);
    for (const path of ["/flush", "/evict", "/tenants/acme"]) {
      const answer = await rawRequest(
        port,
        `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
      );
      expect([path, answer.slice(0, 12)]).toEqual([
        path,
        method === "HEAD" && path === "/tenants/acme" ? "HTTP/1.1 200" : expect.stringMatching(/ 40[045]$/),
      ]);
    }
  });
});

it("none of this changes any tenant's data, decision or cell", () => hostile.assertUntouched());
