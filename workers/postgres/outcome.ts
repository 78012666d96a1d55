/** What a failed statement means for the request, for its commit and for the connection. */
import pg from "pg";
import { SafeError } from "postgraphile/grafast";
import { ConnectionLost, connectionFault, wasInterrupted } from "../../src/shared/connect/loss.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { SchemaChanged } from "../../src/shared/protocol/schema-moved.ts";
import type { RequestScope } from "../request/request-scope.ts";
import { isGuardFailure, reportedRevisions } from "./revision-guard.ts";

/** Whether PostgreSQL ended the session because its transaction took too long; it would do so again. */
export function endedByTimeout(error: unknown): boolean {
  return error instanceof ConnectionLost && connectionFault(error.cause) === "timed-out";
}

/** Whether the database could not be reached, or the pool had no connection. */
export function saysUnreachable(error: unknown): error is HostError {
  return (
    error instanceof HostError && (error.code === "DATABASE_UNREACHABLE" || error.code === "NO_CAPACITY")
  );
}

const maxCauses = 100;

/** `error` with its causes and parts: Graphile and its plugins wrap the errors they catch. */
export function causesOf(error: unknown): readonly unknown[] {
  const found = new Set<unknown>([error]);
  // A Set's iteration includes what is added meanwhile, and visits nothing twice.
  for (const each of found) {
    if (!(each instanceof Error)) continue;
    const inner = [each.cause, "originalError" in each ? each.originalError : undefined];
    if (each instanceof AggregateError) inner.push(...each.errors);
    for (const cause of inner) if (cause !== undefined && found.size < maxCauses) found.add(cause);
  }
  return [...found];
}

/**
 * Whether the commit may have happened despite `error`. Not if PostgreSQL refused it; without an answer from PostgreSQL, nobody
 * knows.
 */
export function mayHaveCommitted(error: unknown): boolean {
  if (error instanceof ConnectionLost) return true;
  return !(error instanceof pg.DatabaseError || error instanceof HostError);
}

/**
 * What to throw for `error`. A failure that the host must answer, or run the request again for, is recorded in the scope, unless
 * the request is irrevocable.
 */
export function toHostFailure(scope: RequestScope, error: unknown): unknown {
  if (isGuardFailure(error)) {
    if (scope.irrevocable) return changedMeanwhile();
    const revisions = reportedRevisions(error);
    scope.hostFailure ??=
      revisions === null
        ? new HostError("SCHEMA_CHANGED", undefined, { cause: error.cause })
        : new SchemaChanged(revisions, error.cause);
    return scope.hostFailure;
  }
  if (wasInterrupted(error, "query_canceled")) {
    return new SafeError("The statement exceeded its time limit.", { code: "STATEMENT_TIMEOUT" });
  }
  if (!(error instanceof HostError)) return error;
  switch (error.code) {
    // No connection was to be had, or none that may write, so nothing of this statement has been committed.
    case "NO_CAPACITY":
    case "DATABASE_READ_ONLY":
      if (scope.irrevocable) return new SafeError(error.publicText, { code: error.code });
      break;
    case "BUILD_NOT_SHAREABLE":
      // The host runs the request again in an instance of the tenant's own.
      if (scope.irrevocable) return changedMeanwhile();
      break;
    case "DATABASE_UNREACHABLE":
      if (scope.irrevocable) {
        return new SafeError(
          "The connection to the database was lost; a write may or may not have been committed.",
          { code: "DATABASE_UNREACHABLE" },
        );
      }
      break;
    default:
      return error;
  }
  scope.hostFailure ??= error;
  return scope.hostFailure;
}

/** The error of a request that has already sent part of its answer, or may have committed a write. */
function changedMeanwhile(): SafeError {
  return new SafeError("The schema changed while the request ran.", { code: "SCHEMA_CHANGED" });
}

/** For a result that was cut off with the commit on its way behind it. */
export function openEnded(error: SafeError): SafeError {
  return new SafeError(`${error.message} A write may or may not have been committed.`, error.extensions);
}
