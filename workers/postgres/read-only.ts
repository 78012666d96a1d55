/** Detects connections that take no writes: those to a standby, and sessions that were set to read-only. */
import { parseSessionState, sessionStateQuery } from "../../src/shared/connect/session-state.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { Connection } from "./connection.ts";

/** PostgreSQL refused to write on that connection. Nothing of the transaction was committed, so another connection may do better. */
export class ReadOnly extends HostError<"DATABASE_READ_ONLY"> {
  /** The connection's number among the cell's connections to that database, in the order of opening. */
  readonly ordinal: number;

  constructor(cause: unknown, ordinal: number) {
    super("DATABASE_READ_ONLY", undefined, { cause });
    this.ordinal = ordinal;
  }
}

/**
 * Whether a transaction begun on `connection`, which has none open, could not write. Asked only after a failure, because any
 * function may raise that error code.
 */
export async function isReadOnly(connection: Connection): Promise<boolean> {
  const { rows } = await connection.send([{ text: sessionStateQuery }]);
  const { standby, readOnly } = parseSessionState(rows);
  return standby || readOnly;
}

/** `error`, which says that revisions have moved, or ReadOnly if `connection` is read-only: a standby's revisions may lag. */
export async function refusedByStandby(connection: Connection, error: unknown): Promise<unknown> {
  if (connection.brokenBy !== null) return error;
  try {
    return (await isReadOnly(connection)) ? new ReadOnly(error, connection.ordinal) : error;
  } catch {
    return error;
  }
}
