import { describe, expect, it } from "vitest";
import { itemsQuery } from "../../support/host-tenants.ts";
import { hostileHost, outcome, outcomes } from "../../support/hostile-host.ts";
import { rawConnect } from "../../support/http.ts";

const most = 30;
const hostile = hostileHost({ limits: { requestTimeout: "6s", connections: most } });

const port = (): number => Number(new URL(hostile.at.host.url).port);
const body = JSON.stringify({ query: itemsQuery });
const head = (...more: string[]): string =>
  ["POST /graphql HTTP/1.1", "Host: acme.example", "Content-Type: application/json", ...more, "", ""].join(
    "\r\n",
  );
const whole = head(`Content-Length: ${body.length}`) + body;

/** What a connection received that sends these pieces, and nothing more. */
async function said(...pieces: string[]): Promise<string> {
  const connection = await rawConnect(port());
  for (const piece of pieces) connection.send(piece);
  const received = await connection.received;
  hostile.at.host.sentinel.see("acme", received);
  return received;
}

describe("a client that stalls", () => {
  // Concurrently: the slowest of them waits for the 15 s of a head.
  it.concurrent.each<[string, string[], string[]]>([
    ["before its first byte", [], ["408 DEADLINE"]],
    ["in its first line", ["POST /gra"], ["408 DEADLINE"]],
    ["in its head", [head().slice(0, -2)], ["408 DEADLINE"]],
    ["before its body", [head("Content-Length: 100")], ["408 DEADLINE"]],
    ["in its body", [head("Content-Length: 100"), '{"query'], ["408 DEADLINE"]],
    ["between chunks", [head("Transfer-Encoding: chunked"), '5\r\n{"que\r\n'], ["408 DEADLINE"]],
    ["within a chunk's length", [head("Transfer-Encoding: chunked"), "5"], ["408 DEADLINE"]],
    ["before a chunk of a gigabyte", [head("Transfer-Encoding: chunked"), "40000000\r\n{"], ["408 DEADLINE"]],
    ["after the last chunk", [head("Transfer-Encoding: chunked"), "0\r\n"], ["408 DEADLINE"]],
    [
      "before a body after Expect: 100-continue",
      [head("Content-Length: 9", "Expect: 100-continue")],
      ["100", "408 DEADLINE"],
    ],
    ["in the head after a complete request", [whole, "POST /gra"], ["200", "408 DEADLINE"]],
  ])("%s gets 408, and its connection is closed", async (_, pieces, expected) => {
    expect(outcomes(await said(...pieces))).toEqual(expected);
  });
});

describe("clients that keep idle connections", () => {
  it("up to the limit lose them to newcomers with requests", async () => {
    const idle = await Promise.all(Array.from({ length: most }, () => rawConnect(port())));
    for (const each of idle) {
      each.send(whole);
      await each.until(/\}\]\}\}\}$/).catch(() => undefined);
    }
    const answer = await said(whole.replace("Content-Type", "Connection: close\r\nContent-Type"));
    expect(outcome(answer)).toBe("200");
    for (const each of idle) each.socket.destroy();
  });
});

it("none of this changes any tenant's data, decision or cell", () => hostile.assertUntouched());
