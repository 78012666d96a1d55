/** The oldest PostgreSQL that tests run on. npm does not provide it, so it comes from the system, if installed. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { env } from "node:process";

/** The places on Debian and Ubuntu, on Red Hat's family, and for Homebrew on both of its platforms. */
const usualPlaces = [
  "/usr/lib/postgresql/15/bin",
  "/usr/pgsql-15/bin",
  "/opt/homebrew/opt/postgresql@15/bin",
  "/usr/local/opt/postgresql@15/bin",
];

const variable = "ROWHOUSE_TEST_POSTGRES_15";

/** The directory of its programs; null if there is none. Throws if the variable names a directory without them. */
export function postgres15Programs(): string | null {
  const named = env[variable];
  if (named === undefined || named === "")
    return usualPlaces.find((place) => existsSync(join(place, "postgres"))) ?? null;
  if (existsSync(join(named, "postgres"))) return named;
  throw new Error(`${variable} is ${named}, where there is no program called postgres`);
}

/** Whether tests can run on it; prints how to install it if not. */
export function hasPostgres15(): boolean {
  if (postgres15Programs() !== null) return true;
  console.warn(
    `PostgreSQL 15 is not here, and nothing is tested on it: install it (apt-get install postgresql-15), or set ${variable} to the directory of its programs.\n`,
  );
  return false;
}
