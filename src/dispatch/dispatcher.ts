/** Routes a request to the instance of its tenant, and returns its answer. */

import type { Decision } from "../decisions/decision.ts";
import { NotStarted } from "../fleet/cell/cell.ts";
import type { Fleet, Lease, LeaseRequest } from "../fleet/fleet.ts";
import type { Observe } from "../observability/observation.ts";
import { isDatabaseFull } from "../shared/connect/loss.ts";
import { unlessAborted } from "../shared/kernel/abortable.ts";
import type { CancellationToken } from "../shared/kernel/cancellation.ts";
import { pause } from "../shared/kernel/duration.ts";
import { HostError, toHostError } from "../shared/kernel/errors.ts";
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import { discardBody } from "../shared/protocol/body-stream.ts";
import type { Answer, RequestTask } from "../shared/protocol/messages.ts";
import { SchemaChanged } from "../shared/protocol/schema-moved.ts";
import type { Tenant } from "../tenants/tenant.ts";
import { isExhausted, pauseBefore, type RetryBudget } from "./retry-budget.ts";

/** A request's tenant, and what it may do. */
export interface Admitted {
  readonly tenant: Tenant;
  /** Settings of its transactions, `role` first. */
  readonly settings: Readonly<Record<string, string>>;
  /**
   * For tokens returned by a login function of the tenant: JSON of a TokenSigning; null if it has no signing
   * secret.
   */
  readonly signing: string | null;
  /** The path without the prefix that selected the tenant, which is `basePath`. */
  readonly path: string;
  readonly basePath: string;
}

/** The part of an HTTP request that goes into a cell. */
export interface CellRequest {
  readonly method: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  /** Aborts with a HostError as its reason when the client disconnects or the deadline passes. */
  readonly signal: CancellationToken;
  /** Admits the request by the tenant's current record; throws or rejects with the error for the client. */
  admit(): MaybePromise<Admitted>;
}

export interface DispatchOptions {
  readonly fleet: Fleet;
  readonly decide: (tenant: Tenant) => MaybePromise<Decision>;
  readonly verify: (decision: Decision) => Promise<boolean>;
  /**
   * Called when a decision turned out to be based on an older schema, with the revisions that its guard
   * found, if any (JSON, by schema); the tenant's record may be outdated as well.
   */
  readonly invalidate: (decision: Decision, revisions: string | null) => void;
  /** Told when a pooled instance was found unsafe to share. */
  readonly refuse: (decision: Decision, error: HostError) => void;
  readonly observe: Observe;
  /** How long a request may wait for its schema to settle. */
  readonly patienceMs: number;
}

/** How many times a request is placed again because its cell ended, or passed it on, before starting it. */
const maxMoves = 4;

export class Dispatcher {
  readonly #options: DispatchOptions;

  constructor(options: DispatchOptions) {
    this.#options = options;
  }

  /** The cell's answer to a request; throws the HostError to answer with. */
  async dispatch(request: CellRequest): Promise<Answer> {
    const tries: RetryBudget = {
      sinceMs: performance.now(),
      attempts: 0,
      failedBuilds: 0,
      lost: 0,
      moved: 0,
    };
    for (;;) {
      // Admit again on every try: the tenant's schemas may have changed owner, or have none any more, and the
      // request with them.
      // An await of what is there at once takes a promise and a turn of the microtask queue.
      const admitting = request.admit();
      const admitted = admitting instanceof Promise ? await admitting : admitting;
      const deciding = this.#decide(admitted.tenant, request.signal);
      const decision = deciding instanceof Promise ? await deciding : deciding;
      let lease: Lease | null = null;
      try {
        const wanted = this.#wanted(decision, tries.sinceMs);
        const leasing = this.#options.fleet.lease(wanted);
        const held = leasing instanceof Promise ? await this.#inTime(leasing, request.signal) : leasing;
        lease = held;
        return await this.#ask(held, decision, admitted, request);
      } catch (thrown) {
        const error = toHostError(thrown);
        // The request never reached a thread: it is tried again as if it had just arrived.
        if (thrown instanceof NotStarted && !request.signal.aborted && tries.moved < maxMoves) {
          tries.moved += 1;
          continue;
        }
        const ran = lease !== null;
        if (ran) tries.attempts += 1;
        else tries.failedBuilds += 1;
        if (error.code === "SCHEMA_CHANGED") {
          await this.#settle(decision, error, tries, { ran, signal: request.signal });
        } else if (request.signal.aborted) throw error;
        else this.#prepare(decision, error, tries, ran);
        if (request.signal.aborted) throw toHostError(request.signal.reason);
      }
    }
  }

  /**
   * Waits a moment, because the schema change may still be in progress; throws `error` once the request's
   * patience is exhausted.
   */
  async #settle(
    decision: Decision,
    error: HostError,
    tries: RetryBudget,
    { ran, signal }: { readonly ran: boolean; readonly signal: CancellationToken },
  ): Promise<void> {
    const { observe, invalidate, patienceMs } = this.#options;
    const tenant = decision.tenant.id;
    const attempt = tries.attempts + tries.failedBuilds;
    invalidate(decision, error instanceof SchemaChanged ? error.revisions : null);
    if (ran) observe({ kind: "guard.failed", tenant, attempt: tries.attempts });
    if (isExhausted(tries, performance.now(), patienceMs)) {
      observe({ kind: "guard.exhausted", tenant, attempts: attempt });
      throw error;
    }
    if (signal.aborted) throw error;
    observe({
      kind: "request.retried",
      tenant,
      reason: ran ? "schema-changed" : "build-overtaken",
      attempt,
    });
    await pause(pauseBefore(tries, Math.random()), signal);
  }

  /** Prepares the request's next try; throws `error` if it may not be tried again. */
  #prepare(decision: Decision, error: HostError, tries: RetryBudget, ran: boolean): void {
    const tenant = decision.tenant.id;
    const attempt = tries.attempts + tries.failedBuilds;
    const exhausted = isExhausted(tries, performance.now(), this.#options.patienceMs);
    const refused = error.code === "BUILD_NOT_SHAREABLE" || error.code === "BUILD_READS_MORE";
    if (refused && !exhausted) {
      this.#options.refuse(decision, error);
    } else if (wasLost(error) && tries.lost === 0 && !mayHaveCommitted(error)) {
      tries.lost += 1;
      this.#options.observe({ kind: "request.retried", tenant, reason: "cell-lost", attempt });
    } else if ((error.code === "DATABASE_UNREACHABLE" || isDatabaseFull(error)) && !ran && tries.lost === 0) {
      // Another build uses another connection, which may not be affected by what ended the first.
      tries.lost += 1;
      this.#options.observe({ kind: "request.retried", tenant, reason: "connection-lost", attempt });
    } else {
      throw error;
    }
  }

  #decide(tenant: Tenant, signal: CancellationToken): MaybePromise<Decision> {
    if (signal.aborted) throw toHostError(signal.reason);
    const deciding = this.#options.decide(tenant);
    return deciding instanceof Promise ? before(signal, () => deciding) : deciding;
  }

  #wanted(decision: Decision, sinceMs: number): LeaseRequest {
    const verify = (): Promise<boolean> => this.#options.verify(decision);
    return { spec: decision.spec, tenant: decision.tenant.id, version: decision.version, sinceMs, verify };
  }

  /** Waits for a lease unless the request ends first; a lease that comes too late is released. */
  async #inTime(leasing: Promise<Lease>, signal: CancellationToken): Promise<Lease> {
    try {
      return await before(signal, () => leasing);
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

  #ask(lease: Lease, decision: Decision, admitted: Admitted, request: CellRequest): Promise<Answer> {
    const { cell, instance } = lease;
    const { signal, method, query, headers, body } = request;
    const { settings, signing, path, basePath } = admitted;
    let slot: number;
    try {
      signal.throwIfAborted();
      slot = cell.acquireSlot();
    } catch (error) {
      lease.release();
      throw error;
    }
    const done = (): void => {
      cell.releaseSlot(slot);
      lease.release();
    };
    const task: RequestTask = {
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
    };
    // One promise and one listener for everything: this is on the path of every request.
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        cell.cancel(slot);
        reject(toHostError(signal.reason));
      };
      signal.addEventListener("abort", abort, { once: true });
      cell.request(task, admitted.tenant.id).then(
        (answer) => {
          signal.removeEventListener("abort", abort);
          if (answer.kind === "stream") answer.port.once("close", done);
          else done();
          // Nobody reads the answer any more, and an unread stream would never end.
          if (signal.aborted && answer.kind === "stream") discardBody(answer.port);
          resolve(answer);
        },
        (thrown: unknown) => {
          signal.removeEventListener("abort", abort);
          const error = toHostError(thrown);
          const mayHaveCommitted = cell.mayHaveCommitted(slot);
          done();
          reject(wasLost(error) ? new LostRequest(error, mayHaveCommitted) : error);
        },
      );
    });
  }
}

/** A request whose thread ended before it was answered. */
class LostRequest extends HostError<"CELL_LOST"> {
  readonly mayHaveCommitted: boolean;

  constructor(error: HostError, mayHaveCommitted: boolean) {
    super("CELL_LOST", error.message, { cause: error });
    this.mayHaveCommitted = mayHaveCommitted;
  }

  /** Retry-After says when the host serves again; whether to repeat a mutation is for the client to find out. */
  override get publicText(): string {
    return this.mayHaveCommitted
      ? `${super.publicText} A write may or may not have been committed.`
      : super.publicText;
  }
}

/** Whether the thread ended under a request or its build. Requests that were passed on have a budget of their own. */
function wasLost(error: HostError): boolean {
  return error.code === "CELL_LOST" && !(error instanceof NotStarted);
}

/** A request lost while it waited for a build has not begun. */
function mayHaveCommitted(error: HostError): boolean {
  return error instanceof LostRequest && error.mayHaveCommitted;
}

/** `work`, or the reason of `signal` if it aborts first. */
function before<Value>(signal: CancellationToken, work: () => Promise<Value>): Promise<Value> {
  return unlessAborted(signal, () => toHostError(signal.reason), work);
}
