import { describe, expect, it } from "vitest";
import { itemsQuery } from "../../support/host-tenants.ts";
import { hostileHost, outcome } from "../../support/hostile-host.ts";
import { type RawConnection, rawConnect } from "../../support/http.ts";

const [most, share] = [60, 20];
const hostile = hostileHost({
  limits: { connections: most, addressConnections: share },
  // Not the address of the test's other requests.
  listen: { trustProxy: ["127.0.9.0/24"] },
});

const port = (): number => Number(new URL(hostile.at.host.url).port);
const query = JSON.stringify({ query: itemsQuery });
const head = (...more: string[]): string =>
  ["POST /graphql HTTP/1.1", "Host: acme.example", "Content-Type: application/json", ...more, "", ""].join(
    "\r\n",
  );
const half = head("Content-Length: 900000") + "x".repeat(1_000);

const crowds: RawConnection[][] = [];
/** Opens `count` connections that send `text` and nothing more. */
async function crowd(count: number, from: string, text: string): Promise<RawConnection[]> {
  const connections = await Promise.all(Array.from({ length: count }, () => rawConnect(port(), from)));
  for (const each of connections) each.send(text);
  crowds.push(connections);
  return connections;
}

/** The outcome of a complete request from that address. */
async function ask(from: string, ...headers: string[]): Promise<string> {
  const connection = await rawConnect(port(), from);
  connection.send(head(`Content-Length: ${query.length}`, "Connection: close", ...headers) + query);
  const received = await connection.received;
  hostile.at.host.sentinel.see("acme", received);
  return outcome(received);
}

/** A sample of the metrics. */
async function sample(name: string): Promise<number> {
  return (await hostile.at.host.metrics()).get(`rowhouse_${name}`) ?? Number.NaN;
}

const receiving = (): Promise<number> => sample('http_connections{state="receiving"}');
const refusedByAddress = (): Promise<number> => sample('http_refused_total{reason="address"}');

async function end(): Promise<void> {
  for (const { socket } of crowds.splice(0).flat()) socket.destroy();
  await expect.poll(receiving).toBe(0);
}

describe("three hundred clients of one address that stall", () => {
  it.each([
    ["before their first byte", ""],
    ["in their heads", head().slice(0, -2)],
    ["in their bodies", half],
  ])("%s leave other clients their connections", async (_, text) => {
    const refused = await refusedByAddress();
    const mine = await crowd(300, "127.0.0.3", text);
    await expect.poll(() => mine.filter(({ socket }) => !socket.closed).length).toBe(share);
    for (const from of ["127.0.0.1", "127.0.0.2"]) expect(await ask(from)).toBe("200");
    expect(await refusedByAddress()).toBe(refused + 300 - share);
    // The address's own newest connection is served, too.
    expect(await ask("127.0.0.3")).toBe("200");
    for (const each of mine) {
      if (each.socket.closed) expect(outcome(await each.received)).toMatch(/^429 ADDRESS_BUSY$/);
    }
    await end();
  });
});

describe("clients of many addresses that stall", () => {
  it("do not keep the listener from serving requests", async () => {
    const all: RawConnection[] = [];
    for (let nth = 0; nth < 6; nth += 1) all.push(...(await crowd(share, `127.0.2.${nth}`, half)));
    const held = async (): Promise<number> => {
      const { idle, receiving, working } = (await hostile.at.host.adminJson("/status")).http;
      return idle + receiving + working;
    };
    await expect.poll(held).toBe(most);
    for (let nth = 0; nth < 20; nth += 1) expect(await ask(`127.0.3.${nth}`)).toBe("200");
    const told = await Promise.all(all.filter(({ socket }) => socket.closed).map(({ received }) => received));
    expect(new Set(told.map(outcome))).toEqual(new Set(["503 SERVER_BUSY"]));
    expect(await held()).toBeLessThanOrEqual(most);
    await end();
  });
});

describe("a proxy", () => {
  it("that is trusted may exceed an address's connections, and each of its clients has its own share of requests", async () => {
    const from = "127.0.9.1";
    const forwarded = (address: string): string => `X-Forwarded-For: 192.0.2.1, ${address}`;
    const text = head("Content-Length: 900000", forwarded("198.51.100.7")) + "x".repeat(1_000);
    const mine = await crowd(2 * share, from, text);
    await expect.poll(() => mine.filter(({ socket }) => !socket.closed).length).toBe(share);
    for (const each of mine) {
      if (each.socket.closed) expect(outcome(await each.received)).toBe("429 ADDRESS_BUSY");
    }
    expect(await ask(from, forwarded("198.51.100.7"))).toBe("429 ADDRESS_BUSY");
    expect(await ask(from, forwarded("198.51.100.8"))).toBe("200");
    await end();
  });

  it("that is not trusted counts as one client, whatever it forwards", async () => {
    const mine = await crowd(
      2 * share,
      "127.0.8.1",
      head("Content-Length: 9", "X-Forwarded-For: 127.0.9.1, 198.51.100.7"),
    );
    await expect.poll(() => mine.filter(({ socket }) => !socket.closed).length).toBe(share);
    await end();
  });
});

it("the log names only the first address that reached its limit", () => {
  const warnings = hostile.at.host.process.linesOf("config.warning");
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatchObject({ path: "listen.trustProxy" });
  expect(JSON.stringify(warnings)).toContain("127.0.0.3");
});

it("none of this changes any tenant's data, decision or cell", () => hostile.assertUntouched());
