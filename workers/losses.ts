/** What it means that a statement failed: for the request, for what was to be committed, and for the connection. */
import pg from "pg";
import { SafeError } from "postgraphile/grafast";
import { HostError } from "../src/kernel/errors.ts";
import { isTooManyConnections } from "../src/kernel/too-many-connections.ts";
import { SchemaMoved } from "../src/protocol/schema-moved.ts";
import { isGuardFailure, reportedRevisions } from "./guard.ts";
import type { RequestScope } from "./scope.ts";

/** Of class 08 connection exceptions; server shut down, crashed, starting, session or transaction ended by a timeout; sockets. */
const lossCodes =
  /^(08...|57P0[1235]|25P0[34]|ECONN(REFUSED|RESET|ABORTED)|EPIPE|ETIMEDOUT|ENOTFOUND|ENOENT|EHOSTUNREACH|ENETUNREACH)$/;

/** Whether PostgreSQL ended the session for the time that its transaction took: it would again. */
export function endedByTimeout(error: unknown): boolean {
  return error instanceof pg.DatabaseError && (error.code === "25P03" || error.code === "25P04");
}

/** Of those, what ends one connection while others may be made. */
const cutCodes = /^(57P0[12]|ECONNRESET|EPIPE)$/;

/** What pg says of a connection that is gone; of a client that is asked behind that, the last two. */
const lossMessages = /^(Connection terminated|Client has encountered a connection error|Client was closed)/;
const cutMessages =
  /^(Connection terminated( unexpectedly)?$|Client has encountered a connection error|Client was closed)/;

function tells(error: unknown, codes: RegExp, messages: RegExp): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return codes.test(code) || messages.test(error.message);
}

/** Whether a connection was made and then cut off, as a backend is that is terminated. */
export function isCutOff(error: unknown): boolean {
  return tells(error, cutCodes, cutMessages);
}

/** Whether `error` says that the connection is gone, as opposed to a statement that failed. */
export function isConnectionLoss(error: unknown): boolean {
  return tells(error, lossCodes, lossMessages);
}

/** Whether the database, or a connection of the pool, was not to be had. */
export function saysUnreachable(error: unknown): boolean {
  if (error instanceof HostError)
    return error.code === "DATABASE_UNREACHABLE" || error.code === "NO_CAPACITY";
  return isConnectionLoss(error) || isTooManyConnections(error);
}

const mostCauses = 100;

/** `error` and what it was caused by or is made of: Graphile and its plugins wrap what they are thrown. */
export function causesOf(error: unknown): readonly unknown[] {
  const found = new Set<unknown>([error]);
  // A Set goes on to what is added meanwhile, and takes nothing twice.
  for (const each of found) {
    if (!(each instanceof Error)) continue;
    const inner = [each.cause, "originalError" in each ? each.originalError : undefined];
    if (each instanceof AggregateError) inner.push(...each.errors);
    for (const cause of inner) if (cause !== undefined && found.size < mostCauses) found.add(cause);
  }
  return [...found];
}

/** Whether a changed schema may be why a statement failed. */
export function isSuspect(error: unknown): boolean {
  return error instanceof pg.DatabaseError && !isGuardFailure(error);
}

/** Whether what was to be committed may stand after `error`: not where PostgreSQL said no; where it said nothing, nobody knows. */
export function mayStand(error: unknown): boolean {
  if (isConnectionLoss(error)) return true;
  return !(error instanceof pg.DatabaseError || error instanceof HostError);
}

/** `error`, or what it means where the host is to answer the request or run it again, unless it is settled. */
export function hostsToAnswer(scope: RequestScope, error: unknown): unknown {
  if (isGuardFailure(error)) {
    if (scope.settled) {
      return new SafeError("The schema changed while the request ran.", { code: "SCHEMA_CHANGED" });
    }
    const revisions = reportedRevisions(error);
    scope.fatal ??=
      revisions === null
        ? new HostError("SCHEMA_CHANGED", undefined, { cause: error })
        : new SchemaMoved(revisions, error);
    return scope.fatal;
  }
  // A pool that is busy: no connection was had, so that nothing of this statement may stand.
  if (error instanceof HostError && error.code === "NO_CAPACITY") {
    if (scope.settled) return new SafeError(error.publicText, { code: error.code });
    scope.fatal ??= error;
    return scope.fatal;
  }
  if (error instanceof pg.DatabaseError && error.code === "57014") {
    return new SafeError("The database took longer than it may.", { code: "STATEMENT_TIMEOUT" });
  }
  const isHosts = error instanceof HostError && error.code === "DATABASE_UNREACHABLE";
  if (!isHosts && !isConnectionLoss(error)) return error;
  if (scope.settled) {
    return new SafeError("The connection to the database was lost; a change may or may not have been made.", {
      code: "DATABASE_UNREACHABLE",
    });
  }
  scope.fatal ??= isHosts
    ? error
    : new HostError("DATABASE_UNREACHABLE", "connection lost", { cause: error });
  return scope.fatal;
}

/** For a result that was cut off with the commit on its way behind it. */
export function openEnded(error: SafeError): SafeError {
  return new SafeError(`${error.message} A change may or may not have been made.`, error.extensions);
}
