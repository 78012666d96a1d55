/** Converts PostgreSQL's notices into PostGraphile's form. */
import type { PgClientResult } from "postgraphile/@dataplan/pg";

export type PgNotice = NonNullable<PgClientResult<unknown>["notices"]>[number];

const numbers = ["position", "internalPosition", "line"] as const;
const severities = ["DEBUG", "LOG", "INFO", "NOTICE", "WARNING"] as const;
const texts = [
  "code",
  "detail",
  "hint",
  "internalQuery",
  "where",
  "schema",
  "table",
  "column",
  "dataType",
  "constraint",
  "file",
  "routine",
] as const;

type Field = (typeof texts)[number] | (typeof numbers)[number] | "severity" | "message";

/** `message` is pg-protocol's: every field is text, or undefined if the server did not send it. */
export function noticeOf(message: { readonly [Each in Field]: string | undefined }): PgNotice {
  const notice: PgNotice = {
    severity: severities.find((severity) => severity === message.severity) ?? "NOTICE",
    message: message.message ?? "",
  };
  for (const field of texts) {
    const text = message[field];
    if (text !== undefined) notice[field] = text;
  }
  for (const field of numbers) {
    const text = message[field];
    if (text !== undefined) notice[field] = Number(text);
  }
  return notice;
}
