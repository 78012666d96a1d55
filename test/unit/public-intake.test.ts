import { request } from "undici";
import { afterEach, describe, expect, it } from "vitest";
import { codeIn, get, post, rawConnect, rawRequest } from "../support/http.ts";
import { startPublicApp, type TestApp, textAnswer } from "../support/public-app.ts";

let app: TestApp | undefined;
afterEach(() => app?.close(0));

const start = async (): Promise<TestApp> => {
  app = await startPublicApp(async () => textAnswer("{}"));
  return app;
};

const chunk = `190\r\n${"x".repeat(400)}\r\n`;
const chunkedHead =
  "POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

describe("the public app's intake", () => {
  it.each([
    ["no Host header", get("/graphql")],
    ["two Host headers", get("/graphql", "Host: acme.localhost", "hOsT: globex.localhost")],
    ["two equal Host headers", get("/graphql", "Host: acme.localhost", "Host: acme.localhost")],
    ["an empty Host header", get("/graphql", "Host: ")],
    ["a Host header with a user", get("/graphql", "Host: acme@globex.localhost")],
    ["a Host header with a path", get("/graphql", "Host: acme.localhost/x")],
    ["a Host header with a list", get("/graphql", "Host: acme.localhost, globex.localhost")],
    ["a Host header with raw non-ASCII", get("/graphql", "Host: ac\u00e4me.localhost")],
    ["no Host header in HTTP/1.0", get("/graphql").replace("HTTP/1.1", "HTTP/1.0")],
    ["a Host header with an address that is none", get("/graphql", "Host: 1.2.3.999")],
    ["a Host header that ends in a number", get("/graphql", "Host: acme.99999999999")],
    ["an absolute-form target", get("http://globex.localhost/graphql", "Host: acme.localhost")],
    ["an asterisk-form target", get("*", "Host: a").replace("GET", "OPTIONS")],
    ["an empty segment", get("/t/acme//graphql", "Host: a")],
    ["a target that looks like a host", get("//globex.localhost/graphql", "Host: a")],
    ["a dot segment", get("/t/acme/../globex/graphql", "Host: a")],
    ["a dot segment at the end", get("/t/acme/.", "Host: a")],
    ["an encoded dot segment", get("/t/acme/%2e%2E/graphql", "Host: a")],
    ["an encoded slash", get("/t/acme%2fgraphql", "Host: a")],
    ["an encoded NUL", get("/t/acme%00/graphql", "Host: a")],
    ["a backslash", get("/t\\acme/graphql", "Host: a")],
    ["a broken percent sign", get("/t/%zz/graphql", "Host: a")],
    ["a fragment", get("/graphql#x", "Host: a")],
    ["a body where none belongs", `${get("/graphql", "Host: a", "Content-Length: 2")}{}`],
    ["an empty body", post("")],
    ["a body that is not UTF-8", post("{\xff}")],
    ["a compressed body", post("{}", { "Content-Encoding": "gzip" })],
    ["a head that is too large", get("/graphql", "Host: a", `X-Long: ${"x".repeat(17_000)}`)],
    ["a length and an encoding", post("0\r\n\r\n", { "Transfer-Encoding": "chunked" })],
    ["something else than HTTP", "hello\r\n\r\n"],
  ])("refuses %s with 400 in JSON, without passing it to the host", async (_what, text) => {
    const { port, requests } = await start();
    const answer = await rawRequest(port, text);
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(answer.toLowerCase()).toContain("content-type: application/json; charset=utf-8");
    expect(codeIn(answer)).toBe("BAD_REQUEST");
    expect(requests).toHaveLength(0);
  });

  it("serves requests that only look odd", async () => {
    const { port, requests } = await start();
    await rawRequest(port, get("/t/a..b/%C3%BC/.hidden?q=//../%2f", "Host: [::1]:5678"));
    expect(requests[0]?.facts).toMatchObject({
      path: "/t/a..b/%C3%BC/.hidden",
      query: "q=//../%2f",
      host: "[::1]:5678",
    });
  });

  it.each(["PUT", "DELETE", "PATCH", "HEAD", "QUERY", "TRACE"])(
    "refuses %s with 405 and names the accepted methods",
    async (method) => {
      const { port, requests } = await start();
      const answer = await rawRequest(port, get("/graphql", "Host: a").replace("GET", method));
      expect(answer).toMatch(/^HTTP\/1\.1 405 /);
      expect(answer).toMatch(/allow: GET, POST, OPTIONS/i);
      expect(requests).toHaveLength(0);
    },
  );

  it.each([
    ["application/json", 200],
    ["Application/JSON; charset=utf-8", 200],
    ["application/graphql", 200],
    ["text/plain", 415],
    ["application/jsonp", 415],
    ["multipart/form-data; boundary=application/json", 415],
    ["", 415],
  ])("answers a POST of %s with %i", async (type, status) => {
    const { url } = await start();
    const answer = await request(`${url}/graphql`, {
      method: "POST",
      headers: { "content-type": type },
      body: "{}",
    });
    expect(answer.statusCode).toBe(status);
    if (status === 415) expect(codeIn(await answer.body.text())).toBe("MEDIA_TYPE");
  });

  it("refuses a request for its first fault: expectation, target, accepted types, method, media type, encoding, size", async () => {
    const running = await start();
    const large = "x".repeat(1001);
    const faulty = (line: string, ...headers: string[]): string =>
      [
        `${line} HTTP/1.1`,
        "Host: a",
        "Connection: close",
        `Content-Length: ${large.length}`,
        ...headers,
        "",
        large,
      ].join("\r\n");
    const gzip = "Content-Encoding: gzip";
    const json = "Content-Type: application/json";
    // Each has the faults of all that follow it as well.
    const refusals: [text: string, status: number, code: string][] = [
      [faulty("PUT /a//b", gzip, "Accept: json", "Expect: banana"), 417, "EXPECTATION_FAILED"],
      [faulty("PUT /a//b", gzip, "Accept: json"), 400, "BAD_REQUEST"],
      [faulty("PUT /graphql", gzip, "Accept: json"), 400, "BAD_REQUEST"],
      [faulty("PUT /graphql", gzip), 405, "METHOD_NOT_ALLOWED"],
      [faulty("POST /graphql", gzip), 415, "MEDIA_TYPE"],
      [faulty("POST /graphql", gzip, json), 400, "BAD_REQUEST"],
      [faulty("POST /graphql", json), 413, "BODY_TOO_LARGE"],
    ];
    for (const [nth, [text, status, code]] of refusals.entries()) {
      const answer = await rawRequest(running.port, text);
      expect([answer.slice(0, 12), codeIn(answer)], text).toEqual([`HTTP/1.1 ${status}`, code]);
      expect(answer, text).toMatch(/^x-request-id: [0-9a-f-]{36}\r$/im);
      expect(await running.done(nth + 1)).toMatchObject({ status, code });
    }
    running.phase = "draining";
    for (const [text] of refusals) {
      expect(codeIn(await rawRequest(running.port, text)), text).toBe("SHUTTING_DOWN");
    }
    expect(running.requests).toHaveLength(0);
  });

  it("answers a whole request, whatever follows on the connection, and nothing else", async () => {
    const release = Promise.withResolvers<void>();
    app = await startPublicApp(async () => {
      await release.promise;
      return textAnswer('{"data":"its own"}');
    });
    const { send, received } = await rawConnect(app.port);
    send(`${post("{}").replace("Connection: close\r\n", "")}GARBAGE\r\n\r\n`);
    await expect.poll(() => app?.requests.length).toBe(1);
    send("more of it");
    release.resolve();
    const answer = await received;
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*connection: close[\s\S]*\{"data":"its own"\}$/i);
    expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
  });

  it("refuses a body by its announced length before any of it has arrived, and closes", async () => {
    const { port, requests } = await start();
    const answer = await rawRequest(
      port,
      post("{}", { "Content-Length": "1001" }).replace("Connection: close\r\n", ""),
    );
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer).toMatch(/connection: close/i);
    expect(codeIn(answer)).toBe("BODY_TOO_LARGE");
    expect(requests).toHaveLength(0);
  });

  it("refuses a chunked body as soon as it is over the limit, and closes", async () => {
    const { port, requests } = await start();
    const { send, received, until } = await rawConnect(port);
    send(chunkedHead + chunk + chunk + chunk);
    await until(/BODY_TOO_LARGE/);
    expect(await received).toMatch(/^HTTP\/1\.1 413 [\s\S]*connection: close/i);
    expect(requests).toHaveLength(0);
  });

  it("lets a client that reads only after sending too much read why it was refused", async () => {
    const { port } = await start();
    const { send, received, socket } = await rawConnect(port);
    socket.pause();
    send(chunkedHead);
    // Not to wait for anything: a client that is still sending after the refusal is what this is about.
    for (let sent = 0; sent < 20; sent += 1) {
      send(chunk);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    socket.resume();
    expect(await received).toMatch(/^HTTP\/1\.1 413 /);
  });

  it("accepts a body in pieces of any size, even split within a character", async () => {
    const { port, requests } = await start();
    const text = `{"query":"{ ${"\u00fc\u{1f600}".repeat(60)} }"}`;
    const bytes = Buffer.from(text);
    const chunks = [...bytes].map((byte) => `1\r\n${String.fromCharCode(byte)}\r\n`).join("");
    await rawRequest(
      port,
      `${chunkedHead.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")}${chunks}0\r\n\r\n`,
    );
    expect(requests[0]?.body).toBe(text);
  });

  it("answers 100-continue for an acceptable body, and refuses one that is too large without it", async () => {
    const { port } = await start();
    const waiting = await rawConnect(port);
    const head = (length: number): string =>
      post("", { "Content-Length": String(length), Expect: "100-continue" });
    waiting.send(head(2));
    await waiting.until(/100 Continue\r\n\r\n$/);
    waiting.send("{}");
    expect(await waiting.received).toMatch(/HTTP\/1\.1 200 OK/);
    expect(await rawRequest(port, head(1001))).toMatch(/^HTTP\/1\.1 413 /);
  });
});
