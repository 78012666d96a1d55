import { request } from "undici";
import { afterEach, describe, expect, it } from "vitest";
import { ClientBacklog, type Wait } from "../../src/http/client-backlog.ts";
import type { PublicRequest } from "../../src/http/public/app.ts";
import { ConcurrencyLimit, ConcurrencySlot } from "../../src/http/public/tenant-concurrency.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import { codeIn, post, rawConnect } from "../support/http.ts";
import { startPublicApp, type TestApp, textAnswer } from "../support/public-app.ts";

let app: TestApp | undefined;
afterEach(() => app?.close(0));

const [acme, globex] = [tenantId("acme"), tenantId("globex")];

/** An app that answers when it is told to; the tenant is what the request's header says. */
async function gated(limits: { tenantInFlight?: number; backlogBytes?: number; bodyBytes?: number }) {
  const gate = Promise.withResolvers<void>();
  const started = await startPublicApp(async (incoming: PublicRequest) => {
    incoming.routed(tenantId(incoming.facts.header("x-tenant") ?? "none"));
    await gate.promise;
    return textAnswer("{}");
  }, limits);
  app = started;
  const ask = async (tenant: string, signal?: AbortSignal) => {
    const { statusCode, headers, body } = await request(`${started.url}/graphql`, {
      headers: { "x-tenant": tenant },
      ...(signal === undefined ? {} : { signal }),
    });
    return { status: statusCode, retryAfter: headers["retry-after"], code: codeIn(await body.text()) };
  };
  return { ...started, app: started, open: gate.resolve, ask };
}

describe("a tenant with its share of concurrent requests", () => {
  it("is told to try again while others are answered, and is served again once there is room", async () => {
    const { ask, open, requests } = await gated({ tenantInFlight: 3 });
    const mine = [ask("acme"), ask("acme"), ask("acme")];
    await expect.poll(() => requests.length).toBe(3);
    expect(await ask("acme")).toEqual({ status: 503, retryAfter: "1", code: "TENANT_BUSY" });
    const theirs = ask("globex");
    await expect.poll(() => requests.length).toBe(5);
    open();
    for (const answer of await Promise.all([...mine, theirs])) expect(answer.status).toBe(200);
    expect(await ask("acme")).toMatchObject({ status: 200 });
  });

  it("has room again when its clients have left, however often it was refused", async () => {
    const { ask, requests, app: running } = await gated({ tenantInFlight: 1 });
    for (let round = 0; round < 3; round += 1) {
      const leaving = new AbortController();
      const asked = ask("acme", leaving.signal).catch(() => "gone");
      await expect.poll(() => requests.length).toBe(round * 2 + 1);
      expect(await ask("acme")).toMatchObject({ code: "TENANT_BUSY" });
      leaving.abort();
      expect(await asked).toBe("gone");
      await running.done(round * 2 + 2);
    }
  });

  it("is counted once for a request that moves to another tenant or returns in a retry", () => {
    const inFlight = new ConcurrencyLimit(1, () => new HostError("TENANT_BUSY"));
    const stay = new ConcurrencySlot(inFlight);
    stay.acquire(acme);
    stay.acquire(acme);
    expect(() => inFlight.acquire(acme)).toThrow("Too many concurrent requests");
    stay.acquire(globex);
    inFlight.acquire(acme);
    expect(() => inFlight.acquire(globex)).toThrow("Too many concurrent requests");
    stay.release();
    stay.release();
    inFlight.acquire(globex);
    expect(() => inFlight.acquire(globex)).toThrow("Too many concurrent requests");
  });
});

describe("memory held for slow clients", () => {
  it("is bounded: of the incomplete bodies, the oldest is dropped", async () => {
    const { port, requests, open } = await gated({ backlogBytes: 100_000, bodyBytes: 90_000 });
    const slow = await rawConnect(port);
    const head = post("", { "Content-Length": "80000", "x-tenant": "acme" });
    slow.send(head + "x".repeat(79_000));
    const small = await rawConnect(port);
    small.send(post("", { "Content-Length": "1000", "x-tenant": "acme" }) + "x".repeat(900));
    const quick = await rawConnect(port);
    quick.send(head + "x".repeat(80_000));
    expect(await slow.received).toMatch(/^HTTP\/1\.1 503 [\s\S]*"NO_CAPACITY"/);
    await expect.poll(() => requests.length).toBe(1);
    // One that is at work is not given up for another.
    const late = await rawConnect(port);
    late.send(head + "x".repeat(80_000));
    expect(await late.received).toMatch(/^HTTP\/1\.1 503 [\s\S]*retry-after: \d[\s\S]*"NO_CAPACITY"/i);
    open();
    expect(await quick.received).toMatch(/^HTTP\/1\.1 200 /);
    small.send("x".repeat(100));
    expect(await small.received).toMatch(/^HTTP\/1\.1 200 /);
    const again = await rawConnect(port);
    again.send(head + "x".repeat(80_000));
    expect(await again.received).toMatch(/^HTTP\/1\.1 200 /);
  });

  it("is bounded: of the unread answers, the oldest is dropped", async () => {
    const large = 24_000_000;
    app = await startPublicApp(async () => textAnswer("x".repeat(large)), { backlogBytes: 1.5 * large });
    const first = await rawConnect(app.port);
    first.socket.pause();
    first.send(post("{}"));
    await expect.poll(() => app?.requests.length).toBe(1);
    const second = await rawConnect(app.port);
    second.socket.pause();
    second.send(post("{}"));
    expect(await app.done(1)).toMatchObject({ status: 200, code: "CANCELLED" });
    second.socket.resume();
    expect((await second.received).length).toBeGreaterThan(large);
    first.socket.destroy();
  });

  it("counts each owner's bytes once, and forgets them with it", () => {
    const backlog = new ClientBacklog(10);
    const cut: string[] = [];
    const add = (wait: Wait, bytes: number, name: string) => wait.add(bytes, () => cut.push(name));
    const [a, b, c] = [backlog.wait("192.0.2.1"), backlog.wait("192.0.2.1"), backlog.wait("192.0.2.1")];
    expect([add(a, 4, "a"), add(b, 4, "b"), add(a, 2, "a")]).toEqual([true, true, true]);
    a.keep();
    expect(add(c, 4, "c")).toBe(true);
    expect(cut).toEqual(["b"]);
    expect(add(c, 1, "c")).toBe(false);
    a.leave();
    a.leave();
    b.leave();
    expect(add(c, 5, "c")).toBe(true);
    expect(add(c, 1, "c")).toBe(false);
    expect(cut).toEqual(["b"]);
  });

  it("is taken from the address that holds most, so that nobody pays for another", () => {
    const backlog = new ClientBacklog(100);
    const cut: string[] = [];
    const add = (name: string, address: string, bytes: number) => {
      const wait = backlog.wait(address);
      return { wait, fits: wait.add(bytes, () => cut.push(name)) };
    };
    add("little", "192.0.2.1", 10);
    for (const nth of [1, 2, 3, 4]) add(`much ${nth}`, "192.0.2.2", 20);
    expect(add("more", "192.0.2.3", 15).fits).toBe(true);
    expect(cut).toEqual(["much 1"]);
    for (const nth of [5, 6, 7]) expect(add(`much ${nth}`, "192.0.2.2", 20).fits).toBe(true);
    expect(cut).toEqual(["much 1", "much 2", "much 3", "much 4"]);
    // What is at work counts, but is not cut.
    const { wait } = add("at work", "192.0.2.4", 15);
    wait.keep();
    expect(cut).toEqual(["much 1", "much 2", "much 3", "much 4"]);
    expect(add("big", "192.0.2.4", 61).fits).toBe(true);
    expect(cut.slice(4)).toEqual(["much 5", "much 6", "much 7", "more"]);
    expect(add("bigger", "192.0.2.5", 86).fits).toBe(false);
  });

  it("is taken from others than the newest's address if that holds more for the newest alone", () => {
    const backlog = new ClientBacklog(100);
    const cut: string[] = [];
    backlog.wait("192.0.2.1").add(5, () => cut.push("own"));
    backlog.wait("192.0.2.2").add(40, () => cut.push("another's"));
    expect(backlog.wait("192.0.2.1").add(60, () => cut.push("newest"))).toBe(true);
    expect(cut).toEqual(["another's"]);
  });

  it("of one address does not affect another's half body, however much arrives", async () => {
    const { port, open } = await gated({ backlogBytes: 200_000, bodyBytes: 90_000 });
    const head = post("", { "Content-Length": "80000" });
    const early = await rawConnect(port, "127.0.0.2");
    early.send(head + "x".repeat(50_000));
    const greedy = await Promise.all(Array.from({ length: 6 }, () => rawConnect(port)));
    for (const each of greedy) each.send(head + "x".repeat(79_000));
    expect(await greedy[0]?.received).toMatch(/^HTTP\/1\.1 503 [\s\S]*"NO_CAPACITY"/);
    expect(early.socket.closed).toBe(false);
    open();
    early.send("x".repeat(30_000));
    expect(await early.received).toMatch(/^HTTP\/1\.1 200 /);
    for (const each of greedy) each.socket.destroy();
  });
});
