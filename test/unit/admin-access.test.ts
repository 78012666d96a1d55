import { afterEach, describe, expect, it } from "vitest";
import { closeAdminApps, startAdminApp as start, token } from "../support/admin-app.ts";
import { codeIn, get, rawRequest } from "../support/http.ts";

afterEach(closeAdminApps);

describe("access to the admin app", () => {
  it.each(["/status", "/metrics", "/tenants/acme", "/tenants/acme/migrate", "/evict", "/flush", "/nothing"])(
    "with a token, refuses %s to clients without it, and leaves the probes open",
    async (path) => {
      const { ask } = await start({ token });
      for (const authorization of [
        undefined,
        "Bearer",
        `Bearer ${token}x`,
        `Bearer ${token.slice(1)}`,
        `Basic ${token}`,
      ]) {
        const answer = await ask(path, { headers: authorization === undefined ? {} : { authorization } });
        expect(answer).toMatchObject({ status: 401, code: "UNAUTHORIZED" });
        expect(answer.headers["www-authenticate"]).toBe("Bearer");
      }
      expect((await ask("/healthz")).status).toBe(200);
      expect((await ask("/readyz")).status).toBe(200);
      expect((await ask(path, { headers: { authorization: `bearer ${token}` } })).status).not.toBe(401);
    },
  );

  it.each([
    ["localhost:5679", 200],
    ["127.0.0.1", 200],
    ["[::1]:5679", 200],
    ["evil.example", 401],
    ["127.0.0.1.evil.example", 401],
    ["localhost.evil.example:5679", 401],
  ])("without a token, answers a Host header of %s with %i", async (host, status) => {
    const { ask } = await start();
    expect((await ask("/status", { headers: { host } })).status).toBe(status);
  });

  it("refuses a POST that a web page's form could send", async () => {
    const { post, evicted } = await start();
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/graphql"]) {
      expect(await post("/evict", { cell: "c1" }, { "content-type": type })).toMatchObject({ status: 415 });
      expect(await post("/flush", {}, { "content-type": type })).toMatchObject({ status: 415 });
    }
    expect(evicted).toEqual([]);
  });

  it("refuses commands from another site's page, JSON or not, with or without a token", async () => {
    for (const own of [null, token]) {
      const { post, evicted, observations } = await start({ token: own });
      const authorization = own === null ? {} : { authorization: `Bearer ${own}` };
      const host = "127.0.0.1:5679";
      for (const [headers, status] of [
        [{ origin: "https://evil.example" }, 403],
        [{ origin: "null" }, 403],
        [{ origin: "http://127.0.0.1:5678" }, 403],
        [{ origin: "http://127.0.0.1:5679.evil.example" }, 403],
        [{ origin: "" }, 403],
        [{ "sec-fetch-site": "cross-site" }, 403],
        [{ "sec-fetch-site": "same-site" }, 403],
        [{ "sec-fetch-site": "same-origin", origin: "http://127.0.0.1:5679" }, 200],
        [{ "sec-fetch-site": "none" }, 200],
      ] as const) {
        const answer = await post("/evict", { cell: "c1" }, { host, ...authorization, ...headers });
        expect([headers, answer.status]).toEqual([headers, status]);
        if (status === 403) expect(answer.code).toBe("CROSS_SITE");
      }
      expect(evicted).toHaveLength(2);
      expect(observations).toHaveLength(7);
    }
  });

  it.each(["/tenants/../status", "/x/%2e%2e/status", "/./status", "http://a/status"])(
    "does not treat %s as another path, with a token either",
    async (path) => {
      const { port } = await start({ token });
      const answer = await rawRequest(port, get(path, "Host: a", `Authorization: Bearer ${token}`));
      expect([answer.slice(0, 12), codeIn(answer)]).toEqual(["HTTP/1.1 400", "BAD_REQUEST"]);
    },
  );

  it("without a token, refuses requests that come through a local proxy", async () => {
    const { ask } = await start();
    for (const name of [
      "forwarded",
      "x-forwarded-for",
      "x-forwarded-proto",
      "x-real-ip",
      "x-client-ip",
      "via",
    ]) {
      expect(await ask("/status", { headers: { [name]: "for=203.0.113.1" } })).toMatchObject({ status: 401 });
    }
    expect(await ask("/healthz", { headers: { "x-forwarded-for": "203.0.113.1" } })).toMatchObject({
      status: 200,
    });
  });

  it("ignores an address that fails too often, whatever it sends next, except for the probes", async () => {
    const { ask, observations } = await start({ token });
    const right = { authorization: `Bearer ${token}` };
    for (let n = 0; n < 10; n += 1) {
      expect(await ask("/status", { headers: right })).toMatchObject({ status: 200 });
      expect(await ask("/status", { headers: { authorization: `Bearer guess${n}` } })).toMatchObject({
        status: 401,
      });
    }
    for (const headers of [right, {}, { authorization: "Bearer guess" }]) {
      const answer = await ask("/status", { headers });
      expect(answer).toMatchObject({ status: 429, code: "TOO_MANY_FAILURES" });
      expect(Number(answer.headers["retry-after"])).toBeGreaterThan(50);
    }
    expect(await ask("/readyz")).toMatchObject({ status: 200 });
    expect(observations).toHaveLength(10);
    expect(observations[0]).toMatchObject({
      kind: "admin.refused",
      code: "UNAUTHORIZED",
      path: "/status",
      remoteAddress: "127.0.0.1",
    });
    expect(JSON.stringify(observations)).not.toContain("guess");
  });

  it("accepts a bare POST to flush, but not one that a web page sends", async () => {
    const { ask } = await start();
    expect((await ask("/flush", { method: "POST" })).status).toBe(200);
    for (const [headers, status] of [
      [{ origin: "https://evil.example" }, 403],
      [{ referer: "https://evil.example/" }, 415],
      [{ "sec-fetch-site": "cross-site" }, 403],
    ] as const) {
      expect(await ask("/flush", { method: "POST", headers })).toMatchObject({ status });
    }
    expect(await ask("/evict", { method: "POST" })).toMatchObject({ status: 415 });
  });
});
