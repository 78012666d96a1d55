/** Caches Grafast's plans by size instead of by number. */
import { resourceLimits } from "node:worker_threads";
import { LRUCache } from "lru-cache";
import { execute } from "postgraphile/grafast";
import { type DefinitionNode, type GraphQLSchema, Kind, parse } from "postgraphile/graphql";
import { extentOf } from "../request/complexity.ts";

/** A plan takes 10–30 kB per field of its operation, with its document (PostGraphile 5.1.5). */
const bytesPerField = 20_000;
/** For a thread that has no limit. */
const unlimitedMb = 512;
/** Plans of one operation for different variables, such as those of `@include`; Grafast would keep fifty. */
const maxVariants = 8;

interface Entry {
  readonly of: GraphQLSchema;
  readonly plans: object;
}

export type Plans = LRUCache<object, Entry>;

/** For all instances of a thread, which share its heap: a quarter of V8's limit, which is half of the cell's budget. */
export function createPlans(): Plans {
  const { maxOldGenerationSizeMb = unlimitedMb } = resourceLimits;
  return new LRUCache({
    maxSize: Math.ceil((maxOldGenerationSizeMb * 2 ** 20) / 4 / bytesPerField),
    sizeCalculation: ({ plans }, operation) =>
      weightOf(operation, "fragments" in plans ? plans.fragments : {}),
  });
}

function weightOf(operation: object, fragments: unknown): number {
  const definitions = [operation, ...Object.values(fragments ?? {})].filter(isDefinition);
  return Math.max(1, extentOf({ kind: Kind.DOCUMENT, definitions }).fields);
}

function isDefinition(value: unknown): value is DefinitionNode {
  return typeof value === "object" && value !== null && "kind" in value;
}

/**
 * Has `schema` keep its plans in `plans`. Grafast keeps those of 500 operations, of whatever size: 30 that select 300 fields each
 * fill a cell of 256 MB. Its cache is there after the first operation (grafast 1.1). Returns what gives the plans up; null where there is
 * no cache that Rowhouse knows: Grafast's own limits then hold.
 */
export function keepPlansIn(
  plans: Plans,
  schema: GraphQLSchema,
  resolvedPreset: GraphileConfig.ResolvedPreset,
): (() => void) | null {
  void execute({ schema, document: parse("{ __typename }"), contextValue: {}, resolvedPreset });
  const own: object = schema.extensions.grafast ?? {};
  const slot = Object.getOwnPropertySymbols(own).find((symbol) => isCache(Reflect.get(own, symbol)));
  if (slot === undefined) return null;
  const view = {
    get: (operation: object) => plans.get(operation)?.plans,
    set: (operation: object, its: object) => void plans.set(operation, { of: schema, plans: its }),
  };
  Object.assign(own, { operationOperationPlansCacheMaxLength: maxVariants, [slot]: view });
  return () => {
    for (const [operation, entry] of [...plans.entries()]) if (entry.of === schema) plans.delete(operation);
  };
}

function isCache(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return typeof Reflect.get(value, "get") === "function" && typeof Reflect.get(value, "set") === "function";
}
