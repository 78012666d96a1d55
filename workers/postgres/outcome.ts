/** What it means that a statement failed: for the request, for what was to be committed, and for the connection. */
import pg from "pg";
import { SafeError } from "postgraphile/grafast";
import { ConnectionLost, wasInterrupted } from "../../src/shared/connect/loss.ts";
import { codeOf, HostError } from "../../src/shared/kernel/errors.ts";
import { SchemaChanged } from "../../src/shared/protocol/schema-moved.ts";
import type { RequestScope } from "../request/request-scope.ts";
import { isGuardFailure, reportedRevisions } from "./revision-guard.ts";

/** Whether PostgreSQL ended the session for the time that its transaction took: it would again. */
export function endedByTimeout(error: unknown): boolean {
  if (!(error instanceof ConnectionLost && error.cause instanceof pg.DatabaseError)) return false;
  const { code } = error.cause;
  return code === "25P03" || code === "25P04";
}

/** What ends a connection that is being made while others may be: admin_shutdown, crash_shutdown, and the socket's own. */
const cutCodes = /^(57P0[12]|ECONNRESET|EPIPE)$/;
const cutMessages =
  /^(Connection terminated( unexpectedly)?$|Client has encountered a connection error|Client was closed)/;

/** Whether a connection that was being made was cut off, as a backend is that is terminated. No tenant's function has run there. */
export function wasDisconnected(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return cutCodes.test(codeOf(error) ?? "") || cutMessages.test(error.message);
}

/** Whether the database, or a connection of the pool, was not to be had. */
export function saysUnreachable(error: unknown): error is HostError {
  return (
    error instanceof HostError && (error.code === "DATABASE_UNREACHABLE" || error.code === "NO_CAPACITY")
  );
}

const maxCauses = 100;

/** `error` and what it was caused by or is made of: Graphile and its plugins wrap what they are thrown. */
export function causesOf(error: unknown): readonly unknown[] {
  const found = new Set<unknown>([error]);
  // A Set goes on to what is added meanwhile, and takes nothing twice.
  for (const each of found) {
    if (!(each instanceof Error)) continue;
    const inner = [each.cause, "originalError" in each ? each.originalError : undefined];
    if (each instanceof AggregateError) inner.push(...each.errors);
    for (const cause of inner) if (cause !== undefined && found.size < maxCauses) found.add(cause);
  }
  return [...found];
}

/** Whether a changed schema may be why a statement failed. */
export function isSuspect(error: unknown): boolean {
  return error instanceof pg.DatabaseError;
}

/** Whether what was to be committed may stand after `error`: not where PostgreSQL said no; where it said nothing, nobody knows. */
export function mayHaveBeenCommitted(error: unknown): boolean {
  if (error instanceof ConnectionLost) return true;
  return !(error instanceof pg.DatabaseError || error instanceof HostError);
}

/** `error`, or what it means where the host is to answer the request or run it again, unless it is settled. */
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
  if (wasInterrupted(error, "57014")) {
    return new SafeError("The database took longer than it may.", { code: "STATEMENT_TIMEOUT" });
  }
  if (!(error instanceof HostError)) return error;
  switch (error.code) {
    // Nothing of this statement stands: no connection was had, or none that may write.
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
          "The connection to the database was lost; a change may or may not have been made.",
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

/** For a client who has something of the request already, or for whom something of it stands. */
function changedMeanwhile(): SafeError {
  return new SafeError("The schema changed while the request ran.", { code: "SCHEMA_CHANGED" });
}

/** For a result that was cut off with the commit on its way behind it. */
export function openEnded(error: SafeError): SafeError {
  return new SafeError(`${error.message} A change may or may not have been made.`, error.extensions);
}
