/** The `search_path` setting: in which schemas unqualified names are looked up. */
import { QuoteUtils } from "@pgsql/quotes";
import { HostError } from "../kernel/errors.ts";

/**
 * The value of `search_path` for a tenant's schemas in order, the shared ones last. `pg_temp` is appended,
 * because PostgreSQL searches it first unless it is listed. Throws `CONFIG_INVALID` for names that the
 * setting cannot hold: an empty one, one with a NUL, and `$user`, which stands for the role's name even when
 * quoted.
 */
export function searchPathText(schemas: readonly string[]): string {
  for (const schema of schemas) {
    if (schema === "" || schema === "$user" || schema.includes("\0")) {
      throw new HostError(
        "CONFIG_INVALID",
        `search_path cannot contain a schema named ${JSON.stringify(schema)}`,
      );
    }
  }
  return [...schemas.map((schema) => QuoteUtils.quoteIdentifier(schema)), "pg_temp"].join(", ");
}
