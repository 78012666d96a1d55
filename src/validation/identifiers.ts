/** Names in a tenant's record, restricted to what PostgreSQL allows. */
import { z } from "zod";

const reserved = /^(?:pg_.*|information_schema|rowhouse)$/s;

/** Anything else could not be sent to PostgreSQL as UTF-8 unchanged. */
export const text = z
  .string()
  .refine(
    (value) => !value.includes("\0") && value.isWellFormed(),
    "contains a NUL or an unpaired surrogate",
  );

/** PostgreSQL silently truncates longer names (NAMEDATALEN 64), so that two of them could become one. */
export const identifier = text.refine(
  (value) => value !== "" && Buffer.byteLength(value) <= 63,
  "must be a PostgreSQL identifier of 1 to 63 bytes",
);

export const schemaName = identifier.refine(
  (value) => !reserved.test(value),
  "is reserved: pg_*, information_schema and rowhouse cannot be a tenant's schemas",
);

/** `set role none` would mean the connecting role, and PostgreSQL allows no role with either name. */
export const roleName = identifier.refine(
  (value) => value !== "none" && value !== "public",
  "is not a role name: none and public have a special meaning in PostgreSQL",
);
