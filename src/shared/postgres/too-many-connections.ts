/** What PostgreSQL says where a server, a database or a role has as many connections as it may. */

import { codeOf } from "../kernel/errors.ts";

const sqlState = "53300";

/** Whether `error` is that: there is no connection for us at the moment, and trying again later may find one. */
export function isTooManyConnections(error: unknown): boolean {
  return codeOf(error) === sqlState;
}
