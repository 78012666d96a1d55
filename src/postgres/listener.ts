/** A connection for LISTEN that is restored whenever it is lost, until it is closed. */
import { randomBytes } from "node:crypto";
import { QuoteUtils } from "@pgsql/quotes";
import type pg from "pg";
import type { Observe } from "../observability/observation.ts";
import type { Connector } from "../shared/connect/connector.ts";
import { parseSessionState, sessionStateQuery } from "../shared/connect/session-state.ts";
import { pause } from "../shared/kernel/duration.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { backendQuery, lifted } from "../shared/postgres/pooler.ts";
import { hasState } from "../shared/postgres/sqlstate.ts";
import { connectError, databaseError } from "./connection-errors.ts";
import { connectorTo } from "./database.ts";

/** How long a closing server may take to answer. */
const closeMs = 2_000;

/** How long to wait for a test notification: it arrives right after COMMIT, unless the machine is overloaded. */
const echoMs = 5_000;
const echoChannel = "rowhouse_echo";

/** $1: the backend id that the client was told; a session that is not our own is left unchanged. */
const restQuery = `select ${lifted("idle_session_timeout", "session", `${backendQuery} = $1`)}`;

export interface ListenerOptions {
  readonly name: string;
  /** Must be a direct connection: a transaction pooler would swallow LISTEN. */
  readonly url: string;
  readonly applicationName: string;
  readonly observe: Observe;
  readonly connectTimeoutMs?: number;
  /** Maximum pause between two attempts to reconnect. */
  readonly retryMs?: number;
  /** How often a silent connection is checked. */
  readonly heartbeatMs?: number;
}

export class Listener {
  readonly #options: ListenerOptions;
  readonly #connector: Connector;
  readonly #handlers = new Map<string, ((payload: string) => void)[]>();
  readonly #gapHandlers: (() => void)[] = [];
  readonly #stop = new AbortController();
  #client: pg.Client | undefined;
  /** Whether that client has connected and listened at some time. */
  #established = false;
  #running: Promise<void> | undefined;
  #echoing: Promise<unknown> | undefined;
  /** The test notification that is awaited; the nonce is needed because any role may NOTIFY on that channel. */
  #echo: { readonly nonce: string; readonly heard: AbortController } | undefined;

  constructor(options: ListenerOptions) {
    const { name, url } = options;
    const connector = connectorTo(name, { url });
    // LISTEN is impossible on a standby, so of several hosts the primary is chosen.
    const { hosts, attributes } = connector.target;
    const chosen = attributes === "primary" || attributes === "read-write" || hosts.length === 1;
    this.#connector = chosen ? connector : connectorTo(name, { url, attributes: "primary" });
    this.#options = options;
    this.on(echoChannel, (payload) => {
      if (payload === this.#echo?.nonce) this.#echo.heard.abort();
    });
  }

  /** Calls `handler` for every notification on `channel`. Call it before `open`. */
  on(channel: string, handler: (payload: string) => void): void {
    const handlers = this.#handlers.get(channel);
    if (handlers === undefined) this.#handlers.set(channel, [handler]);
    else handlers.push(handler);
  }

  /** Calls `handler` after every reconnection, since notifications may have been missed. */
  onGap(handler: () => void): void {
    this.#gapHandlers.push(handler);
  }

  /** Resolves once it listens; throws `DATABASE_UNREACHABLE` if it cannot, and then does not retry. */
  async open(): Promise<void> {
    const { ended } = await this.#connect();
    this.#options.observe({ kind: "database.listening", database: this.#options.name, gap: false });
    this.#running = this.#keep(ended);
  }

  /**
   * Whether notifications arrive, which they do not through a transaction pooler; null if that cannot be
   * determined. The test is sent on another connection, because a notification might arrive if the pooler
   * used the same backend for both. Call it after `open`.
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
      // `end` now would leave `connect` pending for ever (pg 8.23); destroying the socket makes it fail.
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
      // The first attempt comes soon; jitter keeps a fleet of hosts from reconnecting all at once.
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
      // No tenant's function runs on this connection, so the code is PostgreSQL's.
      const isStandby = hasState(error, "read_only_sql_transaction");
      throw isStandby ? standbyFault(name) : databaseError(name, error);
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

  /** Makes `client` the current one; resolves when it has ended. */
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

  /** Closes the connection, so that it is restored, if it is dead or its server is now a standby. */
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
   * A peer that vanished silently would leave a listener waiting for ever, as would a former primary that
   * stays up as a standby: the connection is checked regularly, and closed if there is no answer.
   */
  #watch(client: pg.Client): void {
    const timer = setInterval(() => this.check(), this.#options.heartbeatMs ?? 30_000);
    client.once("end", () => clearInterval(timer));
  }
}

/** The error for LISTEN on a standby, with the cure. */
export function standbyFault(database: string): HostError<"DATABASE_READ_ONLY"> {
  return new HostError(
    "DATABASE_READ_ONLY",
    `database ${database}: the server is a standby, which does not support LISTEN: use the primary's URL, list all hosts with target_session_attrs=read-write, or set listenUrl to the primary`,
  );
}

function cut(client: pg.Client): void {
  client.connection.stream.destroy();
}
