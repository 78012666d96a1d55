/** What behaviors match, worked out once for each behavior while an instance is built. */
import type {} from "postgraphile/graphile-build";

declare global {
  namespace GraphileConfig {
    interface Plugins {
      RowhouseBehaviorMatchesPlugin: true;
    }
  }
}

type Behavior = GraphileBuild.Build["behavior"];
type EntityMatches = Behavior["entityMatches"];
/** By type and filter, and then by the behavior of the entity. */
type Known = Map<string, Map<string, boolean | undefined>>;

function isEntityMatches(value: unknown): value is EntityMatches {
  return typeof value === "function" && value.length === 3;
}

/**
 * Of the time that a build takes, graphile-build 5.1 spends two fifths on `entityMatches`, which splits the entity's whole
 * behavior, and all registered ones, at every question: 147–202 ms of a thread for 20 tables, 76–107 with this. What it
 * answers depends on the type's registrations, the filter and the behavior's text alone.
 */
export function behaviorMatchesPlugin(): GraphileConfig.Plugin {
  return {
    name: "RowhouseBehaviorMatchesPlugin",
    version: "1.0.0",
    schema: {
      hooks: {
        init(value, { behavior }) {
          rememberMatches(behavior);
          return value;
        },
        // Whoever asks later is answered by the original, which works it out anew.
        finalize(schema, { behavior }) {
          remembered.delete(behavior);
          forgetBehaviors(behavior);
          return schema;
        },
      },
    },
  };
}

/**
 * The behavior of each column, relation and codec was worked out for the build, and is kept as long as the instance with how it
 * came about: 10 of 58 MB of an instance of 300 tables. These are caches; what is not in them is worked out.
 */
function forgetBehaviors(behavior: Behavior): void {
  const kinds: unknown = Reflect.get(behavior, "behaviorEntities");
  if (typeof kinds !== "object" || kinds === null) return;
  for (const kind of Object.values(kinds)) {
    for (const [name, cache] of Object.entries(kind ?? {})) {
      if (name.endsWith("Cache") && cache instanceof Map) cache.clear();
    }
  }
}

/** Those of builds under way. */
const remembered = new WeakMap<Behavior, Known>();
const prototypes = new WeakSet<object>();

/** A behavior is frozen when hooks come to see it: it is its class that has the method replaced, which asks whose it is. */
export function rememberMatches(behavior: Behavior): void {
  const prototype: unknown = Object.getPrototypeOf(behavior);
  if (typeof prototype !== "object" || prototype === null) return;
  remembered.set(behavior, new Map());
  if (prototypes.has(prototype)) return;
  const original: unknown = Reflect.get(prototype, "entityMatches");
  // Of another version: its builds take longer, and are as right.
  if (!isEntityMatches(original)) return;
  prototypes.add(prototype);
  const entityMatches: EntityMatches = function (this: Behavior, type, entity, filter) {
    const known = remembered.get(this);
    if (known === undefined) return original.call(this, type, entity, filter);
    const question = `${type} ${filter}`;
    const answers = known.get(question);
    if (answers !== undefined) {
      const { behaviorString } = this.getBehaviorForEntity(type, entity);
      if (answers.has(behaviorString)) return answers.get(behaviorString);
    }
    // It registers a filter that is new before it works out any behavior, and what is registered when a type's first
    // behavior is worked out is that type's default for good: nothing is asked of it beforehand.
    const answer = original.call(this, type, entity, filter);
    const { behaviorString } = this.getBehaviorForEntity(type, entity);
    const kept = known.get(question) ?? new Map<string, boolean | undefined>();
    known.set(question, kept.set(behaviorString, answer));
    return answer;
  };
  Object.defineProperty(prototype, "entityMatches", { value: entityMatches });
}
