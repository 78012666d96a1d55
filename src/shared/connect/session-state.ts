/** Whether a session is on a standby, and whether it accepts writes: the basis of `target_session_attrs`. */
import type { Client } from "pg";
import { z } from "zod";
import type { SessionAttributes } from "./url.ts";

export interface SessionState {
  readonly standby: boolean;
  readonly readOnly: boolean;
}

export const sessionStateQuery =
  "select pg_catalog.pg_is_in_recovery() as standby, pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool as \"readOnly\"";

const stateRow = z.object({ standby: z.boolean(), readOnly: z.boolean() });

/** Parses the result of `sessionStateQuery`. */
export function parseSessionState(rows: readonly unknown[]): SessionState {
  return stateRow.parse(rows[0]);
}

/**
 * Call before `client` connects; call the returned function afterwards. PostgreSQL reports both values by
 * itself since version 14; a pooler may withhold them, and then they are queried.
 */
export function readSessionState(client: Client): () => Promise<SessionState> {
  const said = new Map<string, string>();
  const hear = ({ parameterName, parameterValue }: ParameterStatus): void =>
    void said.set(parameterName, parameterValue);
  client.connection.on("parameterStatus", hear);
  return async () => {
    client.connection.off("parameterStatus", hear);
    const [standby, readOnly] = [said.get("in_hot_standby"), said.get("default_transaction_read_only")];
    if (standby !== undefined && readOnly !== undefined) {
      return { standby: standby === "on", readOnly: standby === "on" || readOnly === "on" };
    }
    return parseSessionState((await client.query(sessionStateQuery)).rows);
  };
}

interface ParameterStatus {
  readonly parameterName: string;
  readonly parameterValue: string;
}

/** Whether a session in that state satisfies `attributes`, by libpq's table. */
export function matches(attributes: SessionAttributes, { standby, readOnly }: SessionState): boolean {
  switch (attributes) {
    case "read-write":
      return !readOnly;
    case "read-only":
      return readOnly;
    case "primary":
      return !standby;
    case "standby":
      return standby;
    default:
      return true;
  }
}
