/** Brings a request to the instance of its tenant, and its answer back. */
import { setTimeout as sleep } from "node:timers/promises";
import { HostError, toHostError } from "../kernel/errors.ts";
import type { Observe } from "../kernel/observation.ts";
import { discardBody } from "../protocol/body.ts";
import type { Answer } from "../protocol/messages.ts";
import type { Decision } from "../tenant/decision.ts";
import type { Tenant } from "../tenant/tenant.ts";
import type { Fleet, Lease } from "./fleet.ts";

/** Whose a request is, and what it may do. */
export interface Admitted {
  readonly tenant: Tenant;
  /** Settings of its transactions, `role` first among them. */
  readonly settings: Readonly<Record<string, string>>;
  /** For the tokens that a login function of the tenant's returns: JSON of a TokenSigning. */
  readonly signing: string | null;
  /** Without the prefix that named the tenant, which is `basePath`. */
  readonly path: string;
  readonly basePath: string;
}

/** What of an HTTP request goes into a cell. */
export interface CellRequest {
  readonly method: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  /** Aborts when the client has gone or the time is up, with a HostError as its reason. */
  readonly signal: AbortSignal;
  /** Admits the request, by what is known of its tenant then; throws what the client is to be told. */
  admit(): Promise<Admitted>;
}

export interface DispatchOptions {
  readonly fleet: Fleet;
  readonly decide: (tenant: Tenant) => Promise<Decision>;
  readonly verify: (decision: Decision) => Promise<boolean>;
  /** Told when a decision turned out to be of an older schema; the tenant's record may be older as well. */
  readonly disprove: (decision: Decision) => void;
  /** Told when a pooled build was found unsafe to share. */
  readonly refuse: (decision: Decision, reason: string) => void;
  readonly observe: Observe;
}

const mostAttempts = 4;

export class Dispatcher {
  readonly #options: DispatchOptions;

  constructor(options: DispatchOptions) {
    this.#options = options;
  }

  /** The cell's answer to a request; throws the HostError that the host is to answer with. */
  async dispatch(request: CellRequest): Promise<Answer> {
    let lost = 0;
    for (let attempt = 1; ; attempt += 1) {
      // Each time anew: where its schemas are another's now, or nobody's, so is the request.
      const admitted = await request.admit();
      const { tenant } = admitted;
      const decision = await before(request.signal, this.#options.decide(tenant));
      try {
        const lease = await this.#lease(decision, request.signal);
        return await this.#ask(lease, decision, admitted, request);
      } catch (thrown) {
        const error = toHostError(thrown);
        if (error.code === "SCHEMA_CHANGED") this.#disproved(decision, attempt);
        if (request.signal.aborted || attempt >= mostAttempts) throw error;
        if (error.code === "BUILD_NOT_SHAREABLE") {
          this.#options.refuse(decision, error.message);
        } else if (error.code === "SCHEMA_CHANGED") {
          this.#retried(tenant, "schema-changed", attempt);
          // Whoever is changing the schema may not be done.
          await sleep(Math.random() * 20 * attempt);
        } else if (error.code === "CELL_LOST" && lost === 0 && !mayHaveCommitted(error)) {
          lost += 1;
          this.#retried(tenant, "cell-lost", attempt);
        } else {
          throw error;
        }
      }
    }
  }

  #disproved(decision: Decision, attempt: number): void {
    const { observe, disprove } = this.#options;
    const tenant = decision.tenant.id;
    disprove(decision);
    observe({ kind: "guard.failed", tenant, attempt });
    if (attempt >= mostAttempts) observe({ kind: "guard.exhausted", tenant, attempts: attempt });
  }

  #retried(tenant: Tenant, reason: "cell-lost" | "schema-changed", attempt: number): void {
    this.#options.observe({ kind: "request.retried", tenant: tenant.id, reason, attempt });
  }

  /** A lease, unless the request ends first; a lease that comes too late is given back. */
  async #lease(decision: Decision, signal: AbortSignal): Promise<Lease> {
    const leasing = this.#options.fleet.lease({
      spec: decision.spec,
      tenant: decision.tenant.id,
      verify: () => this.#options.verify(decision),
    });
    try {
      return await before(signal, leasing);
    } catch (error) {
      if (signal.aborted) {
        leasing.then(
          (lease) => lease.release(),
          () => undefined,
        );
      }
      throw error;
    }
  }

  async #ask(lease: Lease, decision: Decision, admitted: Admitted, request: CellRequest): Promise<Answer> {
    const { cell, instance } = lease;
    let slot: number;
    try {
      request.signal.throwIfAborted();
      slot = cell.takeSlot();
    } catch (error) {
      lease.release();
      throw error;
    }
    const done = (): void => {
      cell.freeSlot(slot);
      lease.release();
    };
    const { signal, method, query, headers, body } = request;
    const { settings, signing, path, basePath } = admitted;
    const cancel = (): void => cell.cancel(slot);
    signal.addEventListener("abort", cancel, { once: true });
    const answering = cell
      .request({
        kind: "request",
        slot,
        instance: instance.id,
        binding: decision.binding,
        settings,
        signing,
        method,
        path,
        basePath,
        query,
        headers,
        body,
      })
      .then(
        (answer) => {
          if (answer.kind === "stream") answer.port.once("close", done);
          else done();
          return answer;
        },
        (thrown: unknown) => {
          const error = toHostError(thrown);
          const mayHaveCommitted = cell.mayHaveCommitted(slot);
          done();
          throw error.code === "CELL_LOST" ? new LostRequest(error, mayHaveCommitted) : error;
        },
      );
    try {
      return await before(signal, answering);
    } catch (error) {
      // Nobody reads the answer any more: a stream in it would never end.
      if (signal.aborted) {
        answering.then(
          (answer) => {
            if (answer.kind === "stream") discardBody(answer.port);
          },
          () => undefined,
        );
      }
      throw error;
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }
}

/** A request whose thread ended before it answered. */
class LostRequest extends HostError<"CELL_LOST"> {
  readonly mayHaveCommitted: boolean;

  constructor(error: HostError, mayHaveCommitted: boolean) {
    super("CELL_LOST", error.message, { cause: error });
    this.mayHaveCommitted = mayHaveCommitted;
  }

  /** Retry-After says when the host serves again; whether to ask for a change again is the client's to find out. */
  override get publicText(): string {
    return this.mayHaveCommitted
      ? `${super.publicText} A change may or may not have been made.`
      : super.publicText;
  }
}

/** What was lost while it waited for a build has not begun. */
function mayHaveCommitted(error: HostError): boolean {
  return error instanceof LostRequest && error.mayHaveCommitted;
}

/** `work`, or the reason of `signal` if it aborts first. */
function before<Value>(signal: AbortSignal, work: Promise<Value>): Promise<Value> {
  if (signal.aborted) {
    // Nobody hears of its failure, which unheard would end the process.
    work.catch(() => undefined);
    return Promise.reject(toHostError(signal.reason));
  }
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(toHostError(signal.reason));
  signal.addEventListener("abort", abort, { once: true });
  return Promise.race([work, promise]).finally(() => signal.removeEventListener("abort", abort));
}
