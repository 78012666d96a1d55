/** How connections to one database are made: node-postgres's clients and pools, with the hosts, TLS and session attributes of libpq's strings. */
import pg, { type ClientConfig, type PoolClient, type PoolConfig } from "pg";
import { HostError } from "../kernel/errors.ts";
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
  /** Where what the URL leaves out is said. */
  readonly env?: ConnectionEnvironment;
  /** Instead of what the URL says. */
  readonly attributes?: SessionAttributes;
}

/** The session is not what `target_session_attrs` asks for. */
class OtherSession extends HostError<"DATABASE_READ_ONLY" | "DATABASE_UNREACHABLE"> {}

/** Of the errors while a connection is made, those after which libpq goes on to the next host: the server starts or stops. */
const startingOrStopping = /^57P0[123]$/;

export class Connector {
  readonly target: ConnectionTarget;
  readonly #candidates: Candidates;
  /** Errors after which another way is left. */
  readonly #more = new WeakSet<object>();
  #tls: ClientConfig["ssl"];

  /** Throws `CONFIG_INVALID` where the URL cannot be read, or a file that it names. */
  constructor({ url, env = process.env, attributes }: ConnectorOptions) {
    const target = parseConnectionUrl(url, env);
    this.target = attributes === undefined ? target : { ...target, attributes };
    this.#candidates = new Candidates(candidatesOf(this.target));
    this.#tls = target.tls.mode === "disable" ? false : tlsOptions(target.tls);
    checkReadable(this.target);
  }

  /** A pool whose connections are made as this says. */
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

  /** A connection of its own. `prepare` is given each client before it connects, the last of which is the one. */
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
        // Until the caller listens for itself: what is lost in between would end the process.
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
          // One that never connected has nothing to end, and says nothing when it does.
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

  /** From the files as they are now; as they were, while one of them is just being replaced. */
  #currentTls(): ClientConfig["ssl"] {
    try {
      this.#tls = tlsOptions(this.target.tls);
    } catch {
      // The constructor has found them readable.
    }
    return this.#tls;
  }

  /** Takes note of what is wrong with a way, and gives `error` in words. */
  #judge(candidate: Candidate, error: unknown): unknown {
    const { host, port } = candidate.place;
    const fault = tlsFault(error, host.startsWith("/") ? host : `${host}:${port}`) ?? error;
    const failure = failureOf(error, fault !== error);
    if (failure === null) return fault;
    this.#candidates.failed(candidate, failure);
    // Whom one host refuses, the others would refuse as well.
    const goesOn =
      error instanceof pg.DatabaseError && failure === "encryption"
        ? this.#candidates.hasOtherEncryption(candidate)
        : this.#candidates.hasNext;
    if (goesOn && fault instanceof Error) this.#more.add(fault);
    return fault;
  }

  #mayGoOn(error: unknown): boolean {
    if (!(error instanceof Error)) return false;
    // pg-pool has words of its own for a client that it gave up.
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

/** `connect`, until it succeeds or there is no other way left; then throws what says most. */
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

/** That there is no rule for a connection without TLS, or with it, says less than why the other one was refused. */
function mostTelling(first: unknown, last: unknown): unknown {
  if (first instanceof OtherSession && !(last instanceof HostError)) return first;
  const refused = first instanceof pg.DatabaseError && first.routine !== "ClientAuthentication";
  return refused && last instanceof pg.DatabaseError ? first : last;
}

function failureOf(error: unknown, isTls: boolean): Failure | null {
  if (error instanceof OtherSession) return "attributes";
  if (isTls) return "encryption";
  if (error instanceof pg.DatabaseError) {
    const { code = "" } = error;
    // Rules of pg_hba.conf may be for connections with TLS only, or for those without.
    if (code === "28000") return "encryption";
    return startingOrStopping.test(code) ? "host" : null;
  }
  return error instanceof HostError ? null : "host";
}

function otherSession(attributes: SessionAttributes): OtherSession {
  const isReadOnly = attributes === "read-write" || attributes === "primary";
  return new OtherSession(
    isReadOnly ? "DATABASE_READ_ONLY" : "DATABASE_UNREACHABLE",
    `no server is as target_session_attrs=${attributes} asks for`,
  );
}

/** Throws where node-postgres cannot read what is left of the URL; its own error would carry it, password included. */
function checkReadable(target: ConnectionTarget): void {
  for (const place of target.hosts) {
    try {
      new pg.Client({ connectionString: target.urlOf(place), ssl: false });
    } catch {
      throw new HostError("CONFIG_INVALID", "the connection string cannot be read");
    }
  }
}
