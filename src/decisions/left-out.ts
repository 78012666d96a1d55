/** What a pooled instance leaves out: hidden objects that seem to be no part of the API. Pure. */
import { QuoteUtils } from "@pgsql/quotes";
import type { Dispensable, ShapeProbe } from "../shape/shape.ts";
import type { LeftOutObject } from "../shared/model/blueprint-spec.ts";
import type { Tenant } from "../tenants/tenant.ts";
import { hiddenReason, hiddenText } from "./hidden-reason.ts";

/** Why a tenant cannot be pooled for what bare names do not find, or null, and what a pooled instance of it leaves out. */
interface HiddenVerdict {
  readonly reason: string | null;
  readonly leftOut: readonly LeftOutObject[];
  /** The same as every tenant of the blueprint calls it. */
  readonly labels: readonly string[];
}

type Probed = Pick<ShapeProbe, "hidden" | "found" | "needed" | "dispensable">;

/** Judges what a probe found hidden: one object that the API needs, and nothing is left out. */
export function judgeHidden(
  { schemas }: Pick<Tenant, "schemas">,
  { hidden, found, needed, dispensable }: Probed,
): HiddenVerdict {
  const isNeeded = (_: unknown, index: number): boolean => needed[index] !== false;
  const reason = hiddenReason(hidden.filter(isNeeded), found.filter(isNeeded));
  if (reason !== null) return { reason, leftOut: [], labels: [] };
  const logical = new Map(schemas.map((schema) => [schema.physical, schema.logical]));
  return {
    reason: null,
    leftOut: dispensable.map((object) => leftOut(object, logical)),
    labels: dispensable.map(({ kind, schema, name, arguments: args }) =>
      // In PostgreSQL a schema that is not served may be called like another's logical name.
      JSON.stringify([kind, logical.has(schema), logical.get(schema) ?? schema, name, args]),
    ),
  };
}

function leftOut(
  { kind, oid, schema, name, finds }: Dispensable,
  logical: ReadonlyMap<string, string>,
): LeftOutObject {
  const words = [logical.get(schema) ?? schema, name].map((word) => QuoteUtils.quoteIdentifier(word));
  return {
    kind: kind === "function" || kind === "type" ? kind : "relation",
    oid,
    schema,
    name,
    reason: hiddenText(`${kind} ${words.join(".")}`, finds),
  };
}
