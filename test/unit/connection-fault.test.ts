import pg from "pg";
import { describe, expect, it } from "vitest";
import { ConnectionLost, connectionFault, noConnection } from "../../src/shared/connect/loss.ts";
import { hasState, isStale } from "../../src/shared/postgres/sqlstate.ts";
import { endedByTimeout } from "../../workers/postgres/outcome.ts";

function says(code: string, routine = "SomeRoutine"): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError("said so", 7, "error"), { code, routine });
}
const ofSocket = (code: string): Error => Object.assign(new Error(`connect ${code}`), { code });

describe("an error of a connection", () => {
  it.each([
    ["57P01", "ended", "admin_shutdown: a new connection may go to another backend, or to the new primary"],
    ["57P02", "ended", "crash_shutdown: the server comes back at once"],
    ["57P04", "ended", "database_dropped: a standby gives way to what it replays"],
    ["57P05", "ended", "idle_session_timeout: nothing was running that could end the next one"],
    ["57P03", "unreachable", "cannot_connect_now: asking at once gets the same answer"],
    ["25P03", "timed-out", "idle_in_transaction_session_timeout: the same work would end the next one"],
    ["25P04", "timed-out", "transaction_timeout: the same work would end the next one"],
    ["53300", "full", "too_many_connections: the server is there and has no room"],
    ["08006", "unreachable", "connection_failure"],
    ["08P01", "unreachable", "protocol_violation, as PgBouncer says whatever it has to say"],
    ["28P01", null, "invalid_password"],
    ["3D000", null, "invalid_catalog_name"],
    ["57014", null, "query_canceled ends a statement, not its session"],
    ["25P02", null, "in_failed_sql_transaction"],
    ["25006", null, "read_only_sql_transaction"],
  ])("%s says that it is %s: %s", (code, fault, _why) => {
    expect(connectionFault(says(code))).toBe(fault);
  });

  it.each([
    ["ECONNRESET", "ended"],
    ["EPIPE", "ended"],
    ["ECONNREFUSED", "unreachable"],
    ["ENOTFOUND", "unreachable"],
    ["ETIMEDOUT", "unreachable"],
    ["EACCES", null],
    ["constructor", null],
  ])("of the socket, %s, says that it is %s", (code, fault) => {
    expect(connectionFault(ofSocket(code))).toBe(fault);
  });

  it.each([
    ["Connection terminated unexpectedly", "ended"],
    ["Connection terminated", "ended"],
    ["Client has encountered a connection error and is not queryable", "ended"],
    ["Connection terminated due to connection timeout", "unreachable"],
    ["timeout exceeded when trying to connect", "unreachable"],
    ["Query read timeout", "unreachable"],
    ["the words Connection terminated further on", null],
  ])("of the driver, %j, says that it is %s", (message, fault) => {
    expect(connectionFault(new Error(message))).toBe(fault);
  });

  it("is no matter of anything but errors", () => {
    expect([null, undefined, "ECONNRESET", { code: "57P01" }].map(connectionFault)).toEqual(
      Array(4).fill(null),
    );
  });
});

describe("without a connection", () => {
  it("a full server is NO_CAPACITY, and anything else DATABASE_UNREACHABLE, with the reason's code", () => {
    const errors = ["53300", "57P03", "28P01"].map((code) => noConnection("PostgreSQL", says(code)));
    expect(errors.map(({ code, message }) => `${code}: ${message}`)).toEqual([
      "NO_CAPACITY: PostgreSQL has no free connection: said so (53300)",
      "DATABASE_UNREACHABLE: PostgreSQL cannot be reached: said so (57P03)",
      "DATABASE_UNREACHABLE: PostgreSQL refused the connection: said so (28P01)",
    ]);
  });

  it("the reason is never empty, and its code not said twice", () => {
    const several = Object.assign(new AggregateError([]), { code: "ECONNREFUSED" });
    const messages = [several, ofSocket("ECONNREFUSED")].map((each) => noConnection("it", each).message);
    expect(messages).toEqual([
      "it cannot be reached: ECONNREFUSED",
      "it cannot be reached: connect ECONNREFUSED",
    ]);
  });
});

describe("a lost connection", () => {
  it("was ended by a time limit only if PostgreSQL gave that as its last word", () => {
    const causes = [says("25P03"), says("25P04"), says("57P05"), says("57P01"), new Error("read ECONNRESET")];
    expect(causes.map((cause) => endedByTimeout(new ConnectionLost(cause)))).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
    // A function may raise that code, and its connection is as good as before.
    expect(endedByTimeout(says("25P04"))).toBe(false);
  });
});

describe("a prepared statement", () => {
  it.each([
    ["26000", "FetchPreparedStatement", true],
    ["42P05", "StorePreparedStatement", true],
    ["0A000", "RevalidateCachedQuery", true],
    ["0A000", "exec_stmt_raise", false],
    ["XX000", "getTypeInputInfo", true],
    ["XX000", "elog_finish", false],
    ["42601", "RevalidateCachedQuery", false],
  ])("is stale after %s from %s: %s", (code, routine, stale) => {
    expect(isStale(says(code, routine))).toBe(stale);
  });

  it("is not stale for an error without a code", () => {
    expect([new Error("no"), null, Object.assign(new Error("no"), { code: 26000 })].map(isStale)).toEqual([
      false,
      false,
      false,
    ]);
  });
});

it("a state is told by its code alone, and one of several is enough", () => {
  expect(hasState(says("42501"), "insufficient_privilege")).toBe(true);
  expect(hasState(says("42501"), "query_canceled", "insufficient_privilege")).toBe(true);
  expect(hasState(says("42501"), "query_canceled")).toBe(false);
  expect(hasState({ code: "42501" }, "insufficient_privilege")).toBe(false);
});
