/** One connection that listens, for as long as it is open, whatever happens to the server in between. */
import { randomBytes } from "node:crypto";
import { QuoteUtils } from "@pgsql/quotes";
import type pg from "pg";
import type { Observe } from "../observability/observation.ts";
import type { Connector } from "../shared/connect/connector.ts";
import { parseSessionState, sessionStateQuery } from "../shared/connect/session-state.ts";
import { pause } from "../shared/kernel/duration.ts";
import { codeOf, HostError } from "../shared/kernel/errors.ts";
import { backendQuery, lifted } from "../shared/postgres/pooler.ts";
import { connectError, databaseError } from "./connection-errors.ts";
import { connectorTo } from "./database.ts";

/** How long a parting server may take to answer. */
const closeMs = 2_000;

/** What is notified arrives as soon as it has committed, on a machine that has time for it. */
const echoMs = 5_000;
const echoChannel = "rowhouse_echo";

/** $1: the id of the backend, as the client was told: a session that is not our own is left as it is. */
const restQuery = `select ${lifted("idle_session_timeout", "session", `${backendQuery} = $1`)}`;

export interface ListenerOptions {
  readonly name: string;
  /** A direct connection: a transaction pooler in between would swallow LISTEN. */
  readonly url: string;
  readonly applicationName: string;
  readonly observe: Observe;
  readonly connectTimeoutMs?: number;
  /** The longest pause between two attempts to connect again. */
  readonly retryMs?: number;
  /** How often a silent connection is asked whether it still lives. */
  readonly heartbeatMs?: number;
}

export class Listener {
  readonly #options: ListenerOptions;
  readonly #connector: Connector;
  readonly #handlers = new Map<string, ((payload: string) => void)[]>();
  readonly #gapHandlers: (() => void)[] = [];
  readonly #stop = new AbortController();
  #client: pg.Client | undefined;
  /** Whether that client has connected and listens, or did. */
  #established = false;
  #running: Promise<void> | undefined;
  #echoing: Promise<unknown> | undefined;
  /** What is waited for on its own channel, where anybody may speak. */
  #echo: { readonly nonce: string; readonly heard: AbortController } | undefined;

  constructor(options: ListenerOptions) {
    const { name, url } = options;
    const connector = connectorTo(name, { url });
    // Nobody can listen on a standby: of several hosts it is the primary that is listened to.
    const { hosts, attributes } = connector.target;
    const chosen = attributes === "primary" || attributes === "read-write" || hosts.length === 1;
    this.#connector = chosen ? connector : connectorTo(name, { url, attributes: "primary" });
    this.#options = options;
    this.on(echoChannel, (payload) => {
      if (payload === this.#echo?.nonce) this.#echo.heard.abort();
    });
  }

  /** Calls `handler` for every notification on `channel`. To be called before `open`. */
  on(channel: string, handler: (payload: string) => void): void {
    const handlers = this.#handlers.get(channel);
    if (handlers === undefined) this.#handlers.set(channel, [handler]);
    else handlers.push(handler);
  }

  /** Calls `handler` after every reconnection: notifications may have been missed before it. */
  onGap(handler: () => void): void {
    this.#gapHandlers.push(handler);
  }

  /** Resolves once it listens; throws `DATABASE_UNREACHABLE` where it cannot, and then nothing goes on. */
  async open(): Promise<void> {
    const { ended } = await this.#connect();
    this.#options.observe({ kind: "database.listening", database: this.#options.name, gap: false });
    this.#running = this.#keep(ended);
  }

  /**
   * Whether what is notified arrives, which it does not through a transaction pooler; null where that cannot be found out. It is sent by
   * another connection: what a pooler's one backend is told while it works for this one would arrive. To be called once it is open.
   */
  hears(): Promise<boolean | null> {
    const echoing = this.#echoes();
    this.#echoing = echoing;
    return echoing;
  }

  /** Never rejects. */
  async #echoes(): Promise<boolean | null> {
    const echo = { nonce: randomBytes(16).toString("base64url"), heard: new AbortController() };
    this.#echo = echo;
    let client: pg.Client | undefined;
    try {
      client = await this.#connector.connect(this.#clientOptions, (made) => made.on("error", () => {}));
      await client.query("select pg_catalog.pg_notify($1, $2)", [echoChannel, echo.nonce]);
      await pause(echoMs, AbortSignal.any([echo.heard.signal, this.#stop.signal]));
    } catch {
      return null;
    } finally {
      await client?.end().catch(() => {});
    }
    if (echo.heard.signal.aborted) return true;
    return this.#stop.signal.aborted ? null : false;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    const client = this.#client;
    if (client !== undefined && !this.#established) {
      // `end` now would leave `connect` pending for ever (pg 8.23): cutting makes it fail.
      cut(client);
    } else if (client !== undefined) {
      const timer = setTimeout(() => cut(client), closeMs);
      await client.end().catch(() => {});
      clearTimeout(timer);
    }
    await Promise.all([this.#running, this.#echoing]);
  }

  async #keep(firstEnd: Promise<void>): Promise<void> {
    const { observe, name, retryMs = 10_000 } = this.#options;
    const signal = this.#stop.signal;
    let ended = firstEnd;
    while (true) {
      await ended;
      // The first attempt is soon; jitter keeps a fleet of hosts from coming back as one.
      for (let limitMs = 100; !signal.aborted; limitMs = Math.min(limitMs * 2, retryMs)) {
        await pause(limitMs * (0.5 + Math.random() / 2), signal);
        if (signal.aborted) return;
        try {
          ({ ended } = await this.#connect());
          break;
        } catch (error) {
          if (error instanceof Error && !signal.aborted)
            observe({ kind: "database.lost", database: name, error });
        }
      }
      if (signal.aborted) return;
      observe({ kind: "database.listening", database: name, gap: true });
      for (const handler of this.#gapHandlers) handler();
    }
  }

  /** Connects and listens; `ended` resolves when that connection has ended. */
  async #connect(): Promise<{ ended: Promise<void> }> {
    const { name } = this.#options;
    this.#established = false;
    let ended = Promise.resolve();
    try {
      const connecting = this.#connector.connect(this.#clientOptions, (made) => {
        if (this.#stop.signal.aborted) throw new HostError("SHUTTING_DOWN");
        ended = this.#hear(made);
      });
      const client = await connecting.catch((error: unknown) => Promise.reject(connectError(name, error)));
      await client.query(restQuery, [client.processID]);
      for (const channel of this.#handlers.keys()) {
        await client.query(`listen ${QuoteUtils.quoteIdentifier(channel)}`);
      }
      if (this.#stop.signal.aborted) throw new HostError("SHUTTING_DOWN");
      this.#established = true;
      this.#watch(client);
      return { ended };
    } catch (error) {
      await this.#client?.end().catch(() => {});
      throw isRefusedByStandby(error) ? standbyFault(name) : databaseError(name, error);
    }
  }

  get #clientOptions(): pg.ClientConfig {
    const { applicationName, connectTimeoutMs = 5_000 } = this.#options;
    return {
      application_name: applicationName,
      connectionTimeoutMillis: connectTimeoutMs,
      query_timeout: 10_000,
      keepAlive: true,
    };
  }

  /** Makes `client` the one that is listened to; resolves when it has ended. */
  #hear(client: pg.Client): Promise<void> {
    const { name, observe } = this.#options;
    client.on("error", (error) => {
      if (this.#client === client && this.#established && !this.#stop.signal.aborted)
        observe({ kind: "database.lost", database: name, error });
    });
    client.on("notification", ({ channel, payload = "" }) => {
      for (const handler of this.#handlers.get(channel) ?? []) handler(payload);
    });
    this.#client = client;
    return new Promise((resolve) => client.once("end", () => resolve()));
  }

  /** Has the connection made anew where it turns out dead, or one to what is a standby now. */
  check(): void {
    const client = this.#client;
    if (client === undefined || !this.#established) return;
    client
      .query(sessionStateQuery)
      .then(({ rows }) => parseSessionState(rows).standby)
      .catch(() => true)
      .then((isOver) => {
        if (isOver) cut(client);
      });
  }

  /**
   * A peer that vanished without a word leaves a listener that waits for ever, and so does one that was the primary, and stays up as a standby:
   * it is asked, and cut off where no answer comes.
   */
  #watch(client: pg.Client): void {
    const timer = setInterval(() => this.check(), this.#options.heartbeatMs ?? 30_000);
    client.once("end", () => clearInterval(timer));
  }
}

/** No tenant's function runs here: the code is PostgreSQL's. */
function isRefusedByStandby(error: unknown): boolean {
  return codeOf(error) === "25006";
}

/** That nobody can listen there, and what to do. */
export function standbyFault(database: string): HostError<"DATABASE_READ_ONLY"> {
  return new HostError(
    "DATABASE_READ_ONLY",
    `database ${database}: the server is a standby, on which nobody can LISTEN: name the primary, all hosts with target_session_attrs=read-write, or the primary as listenUrl`,
  );
}

function cut(client: pg.Client): void {
  client.connection.stream.destroy();
}
