/** PostgreSQL's code for a server, database or role at its connection limit. */

import { codeOf } from "../kernel/errors.ts";

const sqlState = "53300";

/** Whether `error` means that no connection is available at the moment; a later try may succeed. */
export function isTooManyConnections(error: unknown): boolean {
  return codeOf(error) === sqlState;
}
