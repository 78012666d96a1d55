/** The oldest PostgreSQL that tests run on, where the machine has it: npm has none, so that it comes from the system. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { env } from "node:process";

/** Of Debian and Ubuntu, of Red Hat's family, and of Homebrew on both of its machines. */
const usualPlaces = [
  "/usr/lib/postgresql/15/bin",
  "/usr/pgsql-15/bin",
  "/opt/homebrew/opt/postgresql@15/bin",
  "/usr/local/opt/postgresql@15/bin",
];

const variable = "ROWHOUSE_TEST_POSTGRES_15";

/** The directory of its programs; null where there is none. Throws where the variable names a directory that has none. */
export function postgres15Programs(): string | null {
  const named = env[variable];
  if (named === undefined || named === "")
    return usualPlaces.find((place) => existsSync(join(place, "postgres"))) ?? null;
  if (existsSync(join(named, "postgres"))) return named;
  throw new Error(`${variable} is ${named}, where there is no program called postgres`);
}

/** Whether anything can be tested on it; says what to do where nothing can. */
export function hasPostgres15(): boolean {
  if (postgres15Programs() !== null) return true;
  console.warn(
    `PostgreSQL 15 is not here, and nothing is tested on it: install it (apt-get install postgresql-15), or set ${variable} to the directory of its programs.\n`,
  );
  return false;
}
