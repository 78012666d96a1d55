/**
 * Connects to one database: node-postgres clients and pools with libpq's multiple hosts, TLS modes and
 * session attributes.
 */
import pg, { type ClientConfig, type PoolClient, type PoolConfig } from "pg";
import { HostError } from "../kernel/errors.ts";
import { hasState } from "../postgres/sqlstate.ts";
import { type Candidate, Candidates, candidatesOf, type Failure } from "./candidates.ts";
import { matches, readSessionState } from "./session-state.ts";
import { tlsFault, tlsOptions } from "./tls.ts";
import {
  type ConnectionEnvironment,
  type ConnectionTarget,
  parseConnectionUrl,
  type SessionAttributes,
} from "./url.ts";

export interface ConnectorOptions {
  readonly url: string;
  /** PG* variables for what the URL leaves out. */
  readonly env?: ConnectionEnvironment;
  /** Overrides what the URL says. */
  readonly attributes?: SessionAttributes;
}

/** The session does not satisfy `target_session_attrs`. */
class OtherSession extends HostError<"DATABASE_READ_ONLY" | "DATABASE_UNREACHABLE"> {}

export class Connector {
  readonly target: ConnectionTarget;
  readonly #candidates: Candidates;
  /** Errors after which another candidate is left to try. */
  readonly #more = new WeakSet<object>();
  #tls: ClientConfig["ssl"];

  /** Throws `CONFIG_INVALID` if the URL, or a file that it names, cannot be read. */
  constructor({ url, env = process.env, attributes }: ConnectorOptions) {
    const target = parseConnectionUrl(url, env);
    this.target = attributes === undefined ? target : { ...target, attributes };
    this.#candidates = new Candidates(candidatesOf(this.target));
    this.#tls = target.tls.mode === "disable" ? false : tlsOptions(target.tls);
    checkReadable(this.target);
  }

  /** A pool whose connections are made by this connector. */
  pool(config: PoolConfig): pg.Pool {
    const mayGoOn = (error: unknown): boolean => this.#mayGoOn(error);
    const Pool = class extends pg.Pool {
      override connect(): Promise<PoolClient>;
      override connect(callback: PoolCallback): void;
      override connect(callback?: PoolCallback): Promise<PoolClient> | undefined {
        if (callback !== undefined) {
          super.connect(callback);
          return undefined;
        }
        return attempted(() => super.connect(), mayGoOn);
      }
    };
    return new Pool({ ...config, Client: this.#clientClass() });
  }

  /**
   * A connection outside any pool. `prepare` receives each client before it connects; the last of them is the
   * one returned.
   */
  async connect(config: ClientConfig, prepare: (client: pg.Client) => void = ignore): Promise<pg.Client> {
    const Client = this.#clientClass();
    return attempted(
      async () => {
        const client = new Client(config);
        prepare(client);
        await client.connect();
        return client;
      },
      (error) => this.#mayGoOn(error),
    );
  }

  #clientClass(): new (config?: ClientConfig) => pg.Client {
    const next = (): Candidate => this.#candidates.next();
    const configOf = (candidate: Candidate): ClientConfig => this.#configOf(candidate);
    const judge = (candidate: Candidate, error: unknown): unknown => this.#judge(candidate, error);
    const worked = (candidate: Candidate): void => this.#candidates.worked(candidate);
    return class extends pg.Client {
      readonly #candidate: Candidate;

      constructor(config?: ClientConfig) {
        const candidate = next();
        super({ ...config, ...configOf(candidate) });
        this.#candidate = candidate;
      }

      override connect(): Promise<pg.Client>;
      override connect(callback: ClientCallback): void;
      override connect(callback?: ClientCallback): Promise<pg.Client> | undefined {
        // Until the caller adds its own listener: a connection lost in between would end the process.
        this.on("error", ignore);
        const connecting = this.#connect().finally(() => this.off("error", ignore));
        if (callback === undefined) return connecting;
        connecting.then(
          () => callback(null, this),
          (error: unknown) => callback(error instanceof Error ? error : new Error(String(error))),
        );
        return undefined;
      }

      async #connect(): Promise<pg.Client> {
        const { attributes } = this.#candidate;
        try {
          const state = attributes === "any" ? null : readSessionState(this);
          await super.connect();
          if (state !== null && !matches(attributes, await state())) throw otherSession(attributes);
        } catch (error) {
          // Not awaited: on a client that never connected, `end` may never settle.
          void super.end().catch(ignore);
          throw judge(this.#candidate, error);
        }
        worked(this.#candidate);
        return this;
      }
    };
  }

  #configOf({ place, tls }: Candidate): ClientConfig {
    const { target } = this;
    return {
      connectionString: target.urlOf(place),
      ssl: tls ? this.#currentTls() : false,
      sslnegotiation: tls && target.tls.direct ? "direct" : "postgres",
      enableChannelBinding: target.channelBinding,
    };
  }

  /** Reads the files as they are now; if one is just being replaced, uses the previous options. */
  #currentTls(): ClientConfig["ssl"] {
    try {
      this.#tls = tlsOptions(this.target.tls);
    } catch {
      // The constructor was able to read them.
    }
    return this.#tls;
  }

  /** Records what is wrong with a candidate, and returns the error with a readable message. */
  #judge(candidate: Candidate, error: unknown): unknown {
    const { host, port } = candidate.place;
    const fault = tlsFault(error, host.startsWith("/") ? host : `${host}:${port}`) ?? error;
    const failure = failureOf(error, fault !== error);
    if (failure === null) return fault;
    this.#candidates.failed(candidate, failure);
    // If one host rejects the login, the others would reject it as well.
    const goesOn =
      error instanceof pg.DatabaseError && failure === "encryption"
        ? this.#candidates.hasOtherEncryption(candidate)
        : this.#candidates.hasNext;
    if (goesOn && fault instanceof Error) this.#more.add(fault);
    return fault;
  }

  #mayGoOn(error: unknown): boolean {
    if (!(error instanceof Error)) return false;
    // pg-pool wraps the error of a client that it gave up in one of its own.
    return this.#more.has(error) || (error.cause instanceof Error && this.#more.has(error.cause));
  }
}

type PoolCallback = (
  error: Error | undefined,
  client: PoolClient | undefined,
  done: (release?: unknown) => void,
) => void;
type ClientCallback = (error: Error | null, client?: pg.Client) => void;

function ignore(): void {}

/** Calls `connect` until it succeeds or no candidate is left; then throws the most informative error. */
async function attempted<Client>(
  connect: () => Promise<Client>,
  mayGoOn: (error: unknown) => boolean,
): Promise<Client> {
  let first: unknown = null;
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      if (!mayGoOn(error)) throw mostTelling(first, error);
      first ??= error;
    }
  }
}

/**
 * "No pg_hba.conf entry" for a connection without TLS (or with it) says less than why the other one was
 * refused.
 */
function mostTelling(first: unknown, last: unknown): unknown {
  if (first instanceof OtherSession && !(last instanceof HostError)) return first;
  const refused = first instanceof pg.DatabaseError && first.routine !== "ClientAuthentication";
  return refused && last instanceof pg.DatabaseError ? first : last;
}

function failureOf(error: unknown, isTls: boolean): Failure | null {
  if (error instanceof OtherSession) return "attributes";
  if (isTls) return "encryption";
  if (error instanceof pg.DatabaseError) {
    // Rules in pg_hba.conf may apply only to connections with TLS, or only to those without.
    if (hasState(error, "invalid_authorization_specification")) return "encryption";
    // As in libpq, the next host is tried if this server is starting or stopping.
    return hasState(error, "admin_shutdown", "crash_shutdown", "cannot_connect_now") ? "host" : null;
  }
  return error instanceof HostError ? null : "host";
}

function otherSession(attributes: SessionAttributes): OtherSession {
  const isReadOnly = attributes === "read-write" || attributes === "primary";
  return new OtherSession(
    isReadOnly ? "DATABASE_READ_ONLY" : "DATABASE_UNREACHABLE",
    `no server satisfies target_session_attrs=${attributes}`,
  );
}

/**
 * Throws if node-postgres cannot parse the rest of the URL; its own error would contain the URL, password
 * included.
 */
function checkReadable(target: ConnectionTarget): void {
  for (const place of target.hosts) {
    try {
      new pg.Client({ connectionString: target.urlOf(place), ssl: false });
    } catch {
      throw new HostError("CONFIG_INVALID", "the connection string is not valid");
    }
  }
}
