/** A connection to a server, or of a session, that takes no writes: a standby, or one that was told so. */
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { Connection } from "./connection.ts";
import type { Statement } from "./pipeline.ts";

/** PostgreSQL refused to write on that connection, and nothing of the transaction stands: another connection may do better. */
export class ReadOnly extends HostError<"DATABASE_READ_ONLY"> {
  /** Counts the connections of its cell to that database. */
  readonly ordinal: number;

  constructor(cause: unknown, ordinal: number) {
    super("DATABASE_READ_ONLY", undefined, { cause });
    this.ordinal = ordinal;
  }
}

const readOnlyQuery: Statement = {
  text: "select pg_catalog.pg_is_in_recovery() or pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool as found",
};

/**
 * Whether a transaction begun on `connection`, which has none open, could not write. Asked for behind a failure only: any function may raise
 * the code of one.
 */
export async function isReadOnly(connection: Connection): Promise<boolean> {
  const { rows } = await connection.send([readOnlyQuery]);
  const [row] = rows;
  return typeof row === "object" && row !== null && "found" in row && row.found === true;
}

/** `error`, which says that revisions have moved on `connection`, or that it is read-only: a standby's revisions are those of a while ago. */
export async function refusedByStandby(connection: Connection, error: unknown): Promise<unknown> {
  if (connection.doubt !== null) return error;
  try {
    return (await isReadOnly(connection)) ? new ReadOnly(error, connection.ordinal) : error;
  } catch {
    return error;
  }
}
