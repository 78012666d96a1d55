/** Clients of the protocol of graphql-ws that send what a test says, and note what comes. */
import { once } from "node:events";
import { expect } from "vitest";
import { WebSocket } from "ws";
import type { TestHost } from "./host.ts";
import { liveQuery } from "./live-database.ts";

export const socketProtocol = "graphql-transport-ws";

// biome-ignore lint/suspicious/noExplicitAny: whatever a host sends.
export type LiveMessage = any;

/** A socket of a tenant, and what has come of it. */
export class LiveSocket {
  readonly messages: LiveMessage[] = [];
  readonly raw: WebSocket;
  /** The code and reason of its end; the status if it was refused. */
  readonly closed: Promise<{ code: number; reason: string }>;

  constructor(
    host: TestHost,
    tenant: string,
    headers: Record<string, string> = {},
    protocols: string | string[] = socketProtocol,
  ) {
    this.raw = new WebSocket(`${host.url.replace("http", "ws")}/graphql`, protocols, {
      headers: { "x-tenant": tenant, ...headers },
    });
    this.raw.on("message", (data) => {
      host.sentinel.see(tenant, String(data));
      this.messages.push(JSON.parse(String(data)));
    });
    this.closed = new Promise((resolve) => {
      this.raw.on("close", (code, reason) => resolve({ code, reason: String(reason) }));
      this.raw.on("unexpected-response", (request, response) => {
        resolve({ code: response.statusCode ?? 0, reason: "" });
        request.destroy();
      });
      this.raw.on("error", () => {});
    });
  }

  async open(): Promise<this> {
    if (this.raw.readyState !== this.raw.OPEN) await once(this.raw, "open");
    return this;
  }

  send(...messages: object[]): void {
    for (const each of messages) this.raw.send(JSON.stringify(each));
  }

  /** Introduces itself and waits for the answer. */
  async init(payload: object = {}): Promise<this> {
    await this.open();
    this.send({ type: "connection_init", payload });
    await this.count(1);
    expect(this.messages).toEqual([{ type: "connection_ack" }]);
    this.messages.length = 0;
    return this;
  }

  subscribe(id: string, query = liveQuery): void {
    this.send({ type: "subscribe", id, payload: { query } });
  }

  /** Waits for that many messages. */
  async count(count: number): Promise<void> {
    await expect.poll(() => this.messages.length, { timeout: 20_000 }).toBeGreaterThanOrEqual(count);
  }

  /** Waits until the newest message of `id` is a result with that label. */
  async shows(label: string, id = "1"): Promise<void> {
    await expect
      .poll(() => labelsOf(this.messages.findLast((each) => each.id === id)), { timeout: 20_000 })
      .toContain(label);
  }
}

/** The labels in a result of `liveQuery`; none in another message. */
export const labelsOf = (message: LiveMessage): string[] =>
  message?.payload?.data?.allItems.nodes.map(({ label }: { label: string }) => label) ?? [];
