/** Rewrites smart tags that name a served schema by its physical name, for an instance that uses its logical name. */

import { QuoteUtils } from "@pgsql/quotes";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { SchemaBinding } from "../../src/shared/model/blueprint-spec.ts";
import { identifierAt } from "../postgres/statement-names.ts";

/** Tags that hold prose; the same as in `schema-tags.ts` of the shape. */
const spoken = /^(?:name|deprecated|\w*description)$/i;

/** Matches a line that pg-introspection takes for a tag. */
const tag = /^[ \t]*@([a-z]\w*)\s/i;

/** Physical names → quoted logical ones, for schemas whose physical name is no logical name of the instance. */
function renamed(schemas: readonly SchemaBinding[]): ReadonlyMap<string, string> {
  const logical = new Set(schemas.map((schema) => schema.logical));
  return new Map(
    schemas
      .filter(({ physical }) => !logical.has(physical))
      .map((schema) => [schema.physical, QuoteUtils.quoteIdentifier(schema.logical)]),
  );
}

/** The introspection with logical schema names in the arguments of its tags. */
export function tagsInLogicalNames(introspection: string, schemas: readonly SchemaBinding[]): string {
  const names = renamed(schemas);
  const parsed: unknown = JSON.parse(introspection);
  if (typeof parsed !== "object" || parsed === null || !("descriptions" in parsed)) {
    throw new HostError("BUILD_FAILED", "the introspection result lacks its descriptions");
  }
  const { descriptions } = parsed;
  for (const each of Array.isArray(descriptions) ? descriptions : []) {
    if (typeof each?.description === "string") each.description = inLogicalNames(each.description, names);
  }
  return JSON.stringify(parsed);
}

function inLogicalNames(comment: string, names: ReadonlyMap<string, string>): string {
  const lines = comment.split("\n");
  for (const [index, line] of lines.entries()) {
    const name = tag.exec(line)?.[1];
    if (name === undefined) {
      // The description begins.
      if (index > 0 || line.trim() !== "") break;
    } else if (!spoken.test(name)) lines[index] = inTag(line, names);
  }
  return lines.join("\n");
}

function inTag(line: string, names: ReadonlyMap<string, string>): string {
  let out = "";
  let at = 0;
  // In "a.b" only the first word can be a schema.
  let isFirst = true;
  while (at < line.length) {
    const word = identifierAt(line, at);
    const end = word?.end ?? at + 1;
    const logical = isFirst && word !== null ? names.get(word.name) : undefined;
    out += logical !== undefined && /^[ \t]*\./.test(line.slice(end)) ? logical : line.slice(at, end);
    isFirst = word === null && line[at] !== ".";
    at = end;
  }
  return out;
}
