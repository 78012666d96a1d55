import { afterEach, describe, expect, it } from "vitest";
import type { TrustProxy } from "../../src/config/trust-proxy.ts";
import { codeIn, post, type RawConnection, rawConnect } from "../support/http.ts";
import { startPublicApp, type TestApp, textAnswer } from "../support/public-app.ts";

let app: TestApp | undefined;
afterEach(() => app?.close(0));

const head = (length: number, ...more: string[]): string =>
  [
    "POST /graphql HTTP/1.1",
    "Host: a",
    "Content-Type: application/json",
    `Content-Length: ${length}`,
    ...more,
    "",
    "",
  ].join("\r\n");
const whole = `${head(2)}{}`;
const half = `${head(900)}{"query`;

/** An app whose answers wait until `open` is called, but for those to `quick` requests. */
async function crowd(
  limits: { connections?: number; addressConnections?: number },
  trustProxy: TrustProxy = false,
) {
  const gate = Promise.withResolvers<void>();
  const running = await startPublicApp(
    async ({ facts }) => {
      if (facts.header("x-slow") !== null) await gate.promise;
      return textAnswer(`{"from":"${facts.remoteAddress}"}`);
    },
    limits,
    trustProxy,
  );
  app = running;
  const connect = async (from: string, text: string): Promise<RawConnection> => {
    const connection = await rawConnect(running.port, from);
    connection.send(text);
    return connection;
  };
  /** All that is said to a request that ends its connection. */
  const ask = async (from: string, ...headers: string[]): Promise<string> => {
    const { received } = await connect(from, `${head(2, "Connection: close", ...headers)}{}`);
    return received;
  };
  /** One whose request is at work. */
  const working = async (from: string, ...headers: string[]): Promise<RawConnection> => {
    const before = running.requests.length;
    const connection = await connect(from, `${head(2, "X-Slow: 1", ...headers)}{}`);
    await expect.poll(() => running.requests.length).toBe(before + 1);
    return connection;
  };
  return { running, open: gate.resolve, connect, ask, working, held: () => running.snapshot().connections };
}

const busy = /^HTTP\/1\.1 429 [\s\S]*retry-after: 1\r\n[\s\S]*"ADDRESS_BUSY"/;
const full = /^HTTP\/1\.1 503 [\s\S]*retry-after: 1\r\n[\s\S]*"SERVER_BUSY"/;

describe("one address", () => {
  it("with three hundred half bodies keeps its share of connections, and another is served", async () => {
    const { running, connect, ask, held } = await crowd({ connections: 100, addressConnections: 20 });
    const mine = await Promise.all(Array.from({ length: 300 }, () => connect("127.0.0.1", half)));
    await expect.poll(held).toEqual({ idle: 0, receiving: 20, working: 0 });
    expect(await ask("127.0.0.2")).toMatch(/^HTTP\/1\.1 200 /);
    expect(running.snapshot().refused).toEqual({ address: 280, full: 0 });
    await expect.poll(() => mine.filter(({ socket }) => !socket.closed).length).toBe(20);
    for (const each of mine) if (each.socket.closed) expect(await each.received).toMatch(busy);
  });

  it("with all connections at work is refused another, and its work goes on", async () => {
    const { open, connect, ask, working, held } = await crowd({ addressConnections: 3 });
    const mine = await Promise.all([1, 2, 3].map(() => connect("127.0.0.1", whole)));
    for (const each of mine) await each.until(/\}$/);
    for (const each of mine) each.send(`${head(2, "X-Slow: 1")}{}`);
    await expect.poll(held).toEqual({ idle: 0, receiving: 0, working: 3 });
    for (let nth = 0; nth < 10; nth += 1) expect(await ask("127.0.0.1")).toMatch(busy);
    await working("127.0.0.2");
    open();
    for (const each of mine) await each.until(/200 OK[\s\S]*200 OK[\s\S]*\}$/);
    expect(await ask("127.0.0.1")).toMatch(/^HTTP\/1\.1 200 /);
  });

  it("does not lose a connection with a request at work for a half request behind it", async () => {
    const { running, open, ask, connect, held } = await crowd({ addressConnections: 1 });
    const mine = await connect("127.0.0.1", `${head(2, "X-Slow: 1")}{}${half}`);
    await expect.poll(held).toEqual({ idle: 0, receiving: 0, working: 1 });
    await expect.poll(() => running.requests.length).toBe(1);
    expect(await ask("127.0.0.1")).toMatch(busy);
    open();
    await mine.until(/200 OK[\s\S]*\}$/);
    // Now it is the half one that the connection is kept for.
    await expect.poll(held).toEqual({ idle: 0, receiving: 1, working: 0 });
    expect(await ask("127.0.0.1")).toMatch(/^HTTP\/1\.1 200 /);
    expect(await mine.received).toMatch(/429 [\s\S]*"ADDRESS_BUSY"/);
  });

  it("over its share loses only idle connections, if it has any", async () => {
    const { open, connect, working, held } = await crowd({ addressConnections: 4 });
    const uploading = await connect("127.0.0.1", half);
    const atWork = await working("127.0.0.1");
    const idle: RawConnection[] = [];
    for (let nth = 0; nth < 2; nth += 1) {
      const each = await connect("127.0.0.1", whole);
      await each.until(/\}$/);
      idle.push(each);
    }
    expect(held()).toEqual({ idle: 2, receiving: 1, working: 1 });
    const [third, fourth] = [await working("127.0.0.1"), await working("127.0.0.1")];
    for (const each of idle) expect(await each.received).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*\}$/);
    open();
    uploading.send("x".repeat(900 - 7));
    for (const each of [uploading, atWork, third, fourth]) await each.until(/^HTTP\/1\.1 200 [\s\S]*\}$/);
  });
});

describe("a full listener", () => {
  it("makes room for newcomers from those that hold most of it and send nothing", async () => {
    const { running, connect, ask, held } = await crowd({ connections: 20, addressConnections: 15 });
    const few = await connect("127.0.0.3", half);
    const many = await Promise.all(Array.from({ length: 15 }, () => connect("127.0.0.1", half)));
    const others = await Promise.all(Array.from({ length: 4 }, () => connect("127.0.0.4", "POST /gra")));
    await expect.poll(held).toEqual({ idle: 0, receiving: 20, working: 0 });
    for (let nth = 0; nth < 8; nth += 1) expect(await ask(`127.0.1.${nth}`)).toMatch(/^HTTP\/1\.1 200 /);
    for (const { socket } of [few, ...others]) expect(socket.closed).toBe(false);
    const told = await Promise.all(
      many.filter(({ socket }) => socket.closed).map(({ received }) => received),
    );
    expect(told.length).toBeGreaterThan(0);
    for (const each of told) expect(each).toMatch(full);
    expect(running.snapshot().refused).toEqual({ address: 0, full: told.length });
    few.send("x".repeat(900 - 7));
    await few.until(/^HTTP\/1\.1 200 /);
  });

  it("with only requests at work tells newcomers so, and cuts none of them", async () => {
    const { open, ask, working } = await crowd({ connections: 3 });
    const mine = [await working("127.0.0.1"), await working("127.0.0.1"), await working("127.0.0.2")];
    expect(await ask("127.0.0.3")).toMatch(full);
    open();
    for (const each of mine) await each.until(/^HTTP\/1\.1 200 [\s\S]*\}$/);
    expect(await ask("127.0.0.3")).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe("a client's address", () => {
  const from = (answer: string): string | undefined => /"from":"(.*?)"/.exec(answer)?.[1];

  it("is not taken from its own claim, and neither is its share of connections", async () => {
    const { ask, working } = await crowd({ addressConnections: 2 }, ["127.0.0.9"]);
    expect(from(await ask("127.0.0.1", "X-Forwarded-For: 192.0.2.1"))).toBe("127.0.0.1");
    await working("127.0.0.1", "X-Forwarded-For: 192.0.2.2");
    await working("127.0.0.1", "X-Forwarded-For: 192.0.2.3");
    expect(await ask("127.0.0.1", "X-Forwarded-For: 192.0.2.4")).toMatch(busy);
  });

  it.each<[string, TrustProxy, string[], string]>([
    ["the one that a trusted proxy adds", ["127.0.0.1"], ["192.0.2.7"], "192.0.2.7"],
    ["the last of a list, which the proxy has written", ["loopback"], ["10.9.9.9, 192.0.2.7"], "192.0.2.7"],
    ["the last of several headers", ["loopback"], ["10.9.9.9", "192.0.2.7"], "192.0.2.7"],
    [
      "the one before trusted ones",
      ["loopback", "10.0.0.0/8"],
      ["192.0.2.6, 192.0.2.7, 10.1.2.3"],
      "192.0.2.7",
    ],
    ["so many hops away", 2, ["192.0.2.6, 192.0.2.7, 10.1.2.3"], "192.0.2.7"],
    ["the first where everybody is trusted", true, ["192.0.2.6, 192.0.2.7"], "192.0.2.6"],
    ["the proxy's own where it says nothing", ["loopback"], [], "127.0.0.1"],
    ["the proxy's own where it says nothing at length", ["loopback"], [" , ,,  ,"], "127.0.0.1"],
    ["with a port", ["loopback"], ["192.0.2.7:4711"], "192.0.2.7"],
    ["of IPv6 with a port", ["loopback"], ["[2001:db8::7]:4711"], "2001:db8::7"],
    ["of IPv6", ["loopback"], ["2001:db8::7"], "2001:db8::7"],
    ["unknown where it is none", ["loopback"], ["unknown"], "null"],
    ["unknown where it is a number", ["loopback"], ["3221225985"], "null"],
    ["unknown where it is a name of the language", ["loopback"], ["__proto__"], "null"],
    ["unknown in a header of twelve kilobytes", ["loopback"], ["1.1.1.1,".repeat(1_500)], "null"],
    ["unknown in a header of blanks and colons", ["loopback"], [`1${" :".repeat(450)}`], "null"],
  ])("is %s", async (_, trustProxy, headers, expected) => {
    const { ask } = await crowd({}, trustProxy);
    const answer = await ask("127.0.0.1", ...headers.map((value) => `X-Forwarded-For: ${value}`));
    expect(from(answer)).toBe(expected);
  });

  it("has its share of concurrent requests behind a proxy, whose connections are not counted", async () => {
    const { running, open, connect, ask, working } = await crowd({ addressConnections: 3 }, ["loopback"]);
    const mine = ["X-Forwarded-For: 10.0.0.1, 2001:db8:0:1::1", "X-Forwarded-For: 2001:DB8::1:0:0:0:2"];
    const atWork = [
      await working("127.0.0.1", ...mine.slice(0, 1)),
      await working("127.0.0.1", ...mine.slice(1)),
    ];
    // One that sends its body slowly is under way as well.
    await connect("127.0.0.1", `${head(900, "X-Forwarded-For: 2001:db8:0:1::3")}{`);
    await expect.poll(() => running.snapshot().connections).toEqual({ idle: 0, receiving: 1, working: 2 });
    expect(await ask("127.0.0.1", "X-Forwarded-For: 1.1.1.1, 2001:db8:0:1::4")).toMatch(busy);
    expect(await ask("127.0.0.1", "X-Forwarded-For: 192.0.2.1")).toMatch(/^HTTP\/1\.1 200 /);
    open();
    for (const each of atWork) await each.until(/^HTTP\/1\.1 200 [\s\S]*\}$/);
    expect(await ask("127.0.0.1", "X-Forwarded-For: 2001:db8:0:1::4")).toMatch(/^HTTP\/1\.1 200 /);
    expect(
      running.observations.filter((each) => each.kind === "request.done" && each.code === "ADDRESS_BUSY"),
    ).toHaveLength(1);
  });
});

describe("a request that is not for GraphQL", () => {
  it.each([
    [
      "a WebSocket",
      "GET /graphql HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
      "400 BAD_REQUEST",
    ],
    ["a tunnel", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nmore of it", "400 BAD_REQUEST"],
    ["what nobody can do", post("{}", { Expect: "banana" }), "417 EXPECTATION_FAILED"],
  ])("%s, gets an answer in JSON and loses its connection", async (_, text, expected) => {
    const { running, connect, held } = await crowd({});
    const answer = await (await connect("127.0.0.1", text)).received;
    expect(`${/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]} ${codeIn(answer)}`).toBe(expected);
    await expect.poll(held).toEqual({ idle: 0, receiving: 0, working: 0 });
    expect(running.requests).toEqual([]);
  });
});
