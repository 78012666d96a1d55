/** Seeds for PostgreSQL's `random()`. */
import { randomInt } from "node:crypto";

const span = 2 ** 47;

/**
 * An unpredictable value for the setting `seed`, from -1 to 1. `random()` continues from where the
 * connection's last transaction left it, whichever tenant that was, and a seed survives a rollback and
 * `discard all` (PostgreSQL 18.4).
 */
export function randomSeed(): string {
  return String((2 * randomInt(span)) / span - 1);
}
