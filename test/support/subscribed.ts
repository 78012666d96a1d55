/** A subscription by the official clients, and what has come of it. */
import { createClient as createSseClient } from "graphql-sse";
import { type Client, createClient } from "graphql-ws";
import { expect } from "vitest";
import { WebSocket } from "ws";
import type { TestHost } from "./host.ts";

// biome-ignore lint/suspicious/noExplicitAny: whatever a host sends.
export type Result = any;

/** What a client has got of one subscription. */
export class Subscribed {
  readonly results: Result[] = [];
  error: Result = null;
  completed = false;
  closes: { code: number; reason: string }[] = [];
  leave = (): void => {};

  get payloads(): string[] {
    return this.results.map(({ data }) => Object.values<Result>(data)[0].payload);
  }

  async count(count: number): Promise<void> {
    await expect.poll(() => this.results.length, { timeout: 50_000 }).toBeGreaterThanOrEqual(count);
  }
}

export type Transport = "a WebSocket" | "server-sent events";

const headersOf = (tenant: string) => ({ "x-tenant": tenant });

/** The official client of a tenant. */
export function clientOf(
  at: TestHost,
  tenant: string,
  subscribed: Subscribed,
  { transport = "a WebSocket", token }: { transport?: Transport; token?: string | undefined } = {},
) {
  if (transport === "server-sent events") {
    return createSseClient({ url: `${at.url}/graphql`, headers: headersOf(tenant), retryAttempts: 0 });
  }
  class Socket extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols, { headers: headersOf(tenant) });
    }
  }
  const made: Client = createClient({
    url: `${at.url.replace("http", "ws")}/graphql`,
    webSocketImpl: Socket,
    retryAttempts: 0,
    ...(token === undefined ? {} : { connectionParams: { authorization: `Bearer ${token}` } }),
  });
  made.on(
    "closed",
    (event: Result) => void subscribed.closes.push({ code: event.code, reason: event.reason }),
  );
  return made;
}
