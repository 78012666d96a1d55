/** Seeds for PostgreSQL's `random()`. */
import { randomInt } from "node:crypto";

const span = 2 ** 47;

/**
 * A value for the setting `seed`, from -1 to 1, that nobody can guess. `random()` goes on from where the last transaction of its
 * connection left it, whoever's that was, and a seed that was set stays behind a rollback and `discard all` (PostgreSQL 18.4).
 */
export function randomSeed(): string {
  return String((2 * randomInt(span)) / span - 1);
}
