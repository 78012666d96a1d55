/** What an instance calls the schemas that it serves, while it is built and in what is built. */
import { QuoteUtils } from "@pgsql/quotes";
import type { BlueprintSpec } from "../src/protocol/messages.ts";

/** PostgreSQL refuses to create a schema whose name begins with `pg_`: what is called so belongs to no tenant. */
const prefix = "pg_rowhouse_";

/**
 * The served schemas' names, in order. A dedicated instance knows the physical ones. A pooled one is built on the
 * schemas of the tenant that asked first, and must keep nothing of it: it knows placeholders, so that SQL which a plugin
 * makes of a schema's name finds nothing, whoever asks.
 */
export function builtNames({ kind, schemas }: Pick<BlueprintSpec, "kind" | "schemas">): readonly string[] {
  return schemas.map(({ physical }, index) => (kind === "pooled" ? `${prefix}${index + 1}` : physical));
}

export function hasPlaceholder(text: string): boolean {
  return text.includes(prefix);
}

/** `text`, a statement or a message of a build, with the names of the schemas that are there. */
export function withPhysicalNames(text: string, { kind, schemas }: BlueprintSpec): string {
  if (kind !== "pooled" || !hasPlaceholder(text)) return text;
  return text.replaceAll(/"?\bpg_rowhouse_(\d+)\b"?/g, (written, ordinal) => {
    const physical = schemas[Number(ordinal) - 1]?.physical;
    return physical === undefined ? written : QuoteUtils.quoteIdentifier(physical);
  });
}
