import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { authHost, marker, now, pem } from "../support/auth-host.ts";
import { newSecret, notesQuery, withToken } from "../support/auth-tenants.ts";
import { codeIn } from "../support/http.ts";

const auth = authHost();

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");

const invalid = "TOKEN_INVALID";

/** Each is tried with a write of acme's, which would show if it were accepted; and the reason that the log gives. */
const hostile: readonly [string, () => Promise<string> | string, string | null][] = [
  ["the algorithm none", () => `${part({ alg: "none" })}.${part({ aud: "acme" })}.`, "algorithm"],
  [
    "the algorithm None, with a signature",
    async () => `${part({ alg: "None" })}.${(await auth.sign({})).split(".").slice(1).join(".")}`,
    "algorithm",
  ],
  ["another tenant's key", () => auth.sign({}, auth.shared), "signature"],
  ["another tenant's audience", () => auth.sign({ aud: "globex" }), "wrong-aud"],
  ["no audience", () => auth.sign({ aud: undefined }), "no-aud"],
  ["an audience that is a prefix", () => auth.sign({ aud: "acm" }), "wrong-aud"],
  ["an exp a second ago", () => auth.sign({ exp: now() - 1 }), null],
  ["an nbf in a minute", () => auth.sign({ nbf: now() + 60 }), "not-yet"],
  ["an exp that is a string", () => auth.sign({ exp: "never" as never }), "time"],
  ["a kid that is a path", () => auth.sign({}, newSecret(), { kid: "../../../dev/null" }), "signature"],
  ["a kid that is SQL", () => auth.sign({}, newSecret(), { kid: "x' union select 'key'; --" }), "signature"],
  ["the role of a superuser", () => auth.sign({ role: "postgres" }), "role-not-listed"],
  ["the connecting role", () => auth.sign({ role: `${auth.at.database.name}_host` }), "role-not-listed"],
  ["another tenant's role", () => auth.sign({ role: auth.at.globex.roles.authenticated }), "role-not-listed"],
  [
    "a role that is SQL",
    () => auth.sign({ role: `${auth.at.acme.roles.authenticated}"; drop schema public; --` }),
    "role-not-listed",
  ],
  [
    "a role with a NUL",
    () => auth.sign({ role: `${auth.at.acme.roles.authenticated}\0` }),
    "role-not-listed",
  ],
  ["a role that is a list", () => auth.sign({ role: [auth.at.acme.roles.authenticated] }), "role-not-listed"],
  ["a claim with a NUL", () => auth.sign({ name: "a\0b" }), "claims"],
  ["a claim in two spellings", () => auth.sign({ USER_ID: 3 }), "claims"],
  [
    "a hundred claims",
    () => auth.sign(Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`c${n}`, n]))),
    "claims",
  ],
  ["seven kilobytes of x", () => "x".repeat(7_000), "malformed"],
  ["nine kilobytes of x", () => "x".repeat(9_000), "scheme"],
  ["dots", () => "..", "malformed"],
  ["JSON", () => "e30.e30.e30", "malformed"],
];

describe("a token with", () => {
  it.each(hostile)(
    "%s is refused without effect, and the log gives the reason but no part of the token",
    async (_, make, reason) => {
      const code = reason === null ? "TOKEN_EXPIRED" : invalid;
      const token = await make();
      const requestId = `hostile-${randomUUID()}`;
      const mutation = `mutation { addItem(input: { label: "forbidden fruit", mood: calm }) { result { rowId } } }`;
      const { host } = auth.at;
      const headers = { "x-tenant": "acme", authorization: `Bearer ${token}`, "x-request-id": requestId };
      const answer = await host.graphql("acme", mutation, { headers });
      expect(answer).toMatchObject({ status: 401, code, data: undefined });
      expect(answer.headers["www-authenticate"]).toMatch(/^Bearer error="invalid_token"/);
      const message = reason === null ? "The token has expired." : "The token is not valid for this tenant.";
      expect(JSON.parse(answer.text)).toEqual({ errors: [{ message, extensions: { code } }] });
      const line = await host.process.line("request.failed", { requestId });
      expect(line).toMatchObject({ level: "info", code, tenant: "acme" });
      expect(line["reason"]).toBe(reason ?? undefined);
      for (const part of token.split(".").filter((each) => each.length > 3)) {
        expect(JSON.stringify(line)).not.toContain(part);
      }
      const items = await auth.at.database.query(
        "select from canary_acme.item where label = 'forbidden fruit'",
      );
      expect(items).toEqual([]);
    },
  );

  it("a public key used as a secret is refused", async () => {
    for (const key of [pem, pem.trim(), pem.replaceAll("\n", "")]) {
      for (const alg of ["HS256", "HS512"]) {
        const answer = await withToken(
          auth.at.host,
          auth.at.hooli,
          await auth.sign({ aud: "hooli" }, key, { alg }),
          notesQuery,
        );
        expect(answer).toMatchObject({ status: 401, code: invalid });
      }
    }
  });

  it("claims whose names cannot be settings is accepted without them", async () => {
    const names = [
      "search_path",
      "role\0",
      "a-b",
      "a.b",
      "'; drop table note; --",
      "https://x.example/y",
      "x\n",
      "__proto__",
      "x".repeat(300),
    ];
    const claims = Object.fromEntries(names.map((name) => [name, "pg_catalog"]));
    const answer = await withToken(
      auth.at.host,
      auth.at.acme,
      await auth.sign(claims),
      `{ whoami path: claim(name: "search_path") allItems { totalCount } }`,
    );
    expect(answer.errors).toBeUndefined();
    const { whoami, path, allItems } = answer.data;
    expect({ whoami, path, items: allItems.totalCount }).toEqual({
      whoami: auth.at.acme.roles.authenticated,
      path: "pg_catalog",
      items: 3,
    });
  });

  it("claim values that look like SQL yields them as plain text", async () => {
    for (const value of [
      "'; drop table note; --",
      "$$",
      "\\",
      "\n\r\t",
      "é\u{1f512}",
      '{"a":1}',
      "%s%n",
      "",
    ]) {
      const answer = await withToken(
        auth.at.host,
        auth.at.acme,
        await auth.sign({ name: value }),
        `{ claim(name: "name") }`,
      );
      expect(answer.data).toEqual({ claim: value });
    }
  });
});

describe("an Authorization header", () => {
  const ask = async (...lines: string[]): Promise<string> => {
    const body = JSON.stringify({ query: "{ whoami }" });
    const head = [
      "POST /graphql HTTP/1.1",
      "Host: acme.example",
      "Content-Type: application/json",
      `Content-Length: ${body.length}`,
      "Connection: close",
      ...lines,
    ];
    return auth.at.host.raw(`${head.join("\r\n")}\r\n\r\n${body}`, "acme");
  };

  it.each([
    ["without a token", ["Authorization: Bearer"], 401, invalid],
    ["of another scheme", ["Authorization: Basic YTpi"], 401, invalid],
    ["that is empty", ["Authorization:"], 401, invalid],
    ["with two tokens", ["Authorization: Bearer a, Bearer b"], 401, invalid],
    ["beside another", ["Authorization: Bearer a", "authorization: Bearer b"], 400, "BAD_REQUEST"],
    ["with a NUL", ["Authorization: Bearer a\0b"], 400, "BAD_REQUEST"],
  ])("%s is refused", async (_, lines, status, code) => {
    const answer = await ask(...lines);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(codeIn(answer)).toBe(code);
  });

  it("that is repeated is refused, even if one of the two is valid", async () => {
    const token = await auth.sign({});
    expect(await ask(`Authorization: Bearer ${token}`)).toContain(auth.at.acme.roles.authenticated);
    for (const lines of [
      ["Authorization: x", `Authorization: Bearer ${token}`],
      [`Authorization: Bearer ${token}`, "Authorization: x"],
    ]) {
      expect(codeIn(await ask(...lines))).toBe("BAD_REQUEST");
    }
  });

  it("with the scheme in another case is accepted", async () => {
    expect(await ask(`AUTHORIZATION: bEaReR   ${await auth.sign({})}`)).toContain(
      auth.at.acme.roles.authenticated,
    );
  });
});

describe("the host's output", () => {
  it("contains no secret, no token and no claim", async () => {
    const pages = await Promise.all(
      ["/status", "/metrics", "/tenants/acme", "/tenants/globex"].map((path) => auth.at.host.admin(path)),
    );
    const said = [auth.at.host.process.output, ...pages.map(({ text }) => text)].join("\n");
    expect(said).toContain("TOKEN_INVALID");
    expect(auth.signed.length).toBeGreaterThan(30);
    for (const token of auth.signed) {
      const [, payload = "", signature = ""] = token.split(".");
      expect([payload, signature].filter((each) => each !== "" && said.includes(each))).toEqual([]);
    }
    for (const secret of [auth.own, auth.shared, marker, "forbidden fruit"])
      expect(said).not.toContain(secret);
  });
});
