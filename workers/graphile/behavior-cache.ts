/** Caches which behaviors match, per behavior string, while an instance is built. */
import type {} from "postgraphile/graphile-build";
import type { Patching } from "./patching.ts";

declare global {
  namespace GraphileConfig {
    interface Plugins {
      RowhouseBehaviorMatchesPlugin: true;
    }
  }
}

type Behavior = GraphileBuild.Build["behavior"];
type EntityMatches = Behavior["entityMatches"];
type Apply = Behavior["getPreferencesAppliedBehaviors"];
type Resolved = ReturnType<Apply>;

interface Known {
  /** Results by type and filter, and then by the entity's behavior. */
  readonly matches: Map<string, Map<string, boolean | undefined>>;
  /** The effect of the type's preferences on a behavior, by type and behavior. */
  readonly applied: Map<string, Resolved["stack"][number]>;
}

function isEntityMatches(value: unknown): value is EntityMatches {
  return typeof value === "function" && value.length === 3;
}

function isApply(value: unknown): value is Apply {
  return typeof value === "function" && value.length === 3;
}

/**
 * Of the time that a build takes, graphile-build 5.1 spends two fifths on `entityMatches`, which splits the entity's whole
 * behavior, and all registered ones, at every question: 147–202 ms of a thread for 20 tables, 76–107 with this. What it
 * answers depends on the type's registrations, the filter and the behavior's text alone. An eighth of the rest was the type's preferences, of
 * some eighty behaviors, worked into the behavior of each entity: the same for all entities of the same behavior.
 */
export function behaviorMatchesPlugin(patching: Patching): GraphileConfig.Plugin {
  return {
    name: "RowhouseBehaviorMatchesPlugin",
    version: "1.0.0",
    schema: {
      hooks: {
        init(value, { behavior }) {
          patching.apply("behavior-matches", () => rememberMatches(behavior));
          return value;
        },
        // Later calls are answered by the original method, which computes the result anew.
        finalize(schema, { behavior }) {
          if (remembered.delete(behavior)) forgetBehaviors(behavior);
          return schema;
        },
      },
    },
  };
}

/**
 * Clears graphile-build's caches of behaviors. It keeps the behavior of each column, relation and codec, with its derivation, for
 * as long as the instance lives: 10 of 58 MB of an instance of 300 tables. Missing entries are computed again.
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

/** Caches of builds in progress. */
const remembered = new WeakMap<Behavior, Known>();
const prototypes = new WeakSet<object>();

/**
 * A behavior is frozen when hooks come to see it: it is its class that has methods replaced, which ask whose they are. Returns false where
 * one of them is not as known.
 */
export function rememberMatches(behavior: Behavior): boolean {
  const prototype: unknown = Object.getPrototypeOf(behavior);
  if (typeof prototype !== "object" || prototype === null) return false;
  remembered.set(behavior, { matches: new Map(), applied: new Map() });
  if (prototypes.has(prototype)) return true;
  const matches: unknown = Reflect.get(prototype, "entityMatches");
  if (isEntityMatches(matches)) {
    Object.defineProperty(prototype, "entityMatches", { value: rememberingMatches(matches) });
  }
  const apply: unknown = Reflect.get(prototype, "getPreferencesAppliedBehaviors");
  if (isApply(apply)) {
    Object.defineProperty(prototype, "getPreferencesAppliedBehaviors", { value: rememberingApplied(apply) });
  }
  prototypes.add(prototype);
  return isEntityMatches(matches) && isApply(apply);
}

function rememberingMatches(original: EntityMatches): EntityMatches {
  return function entityMatches(this: Behavior, type, entity, filter) {
    const known = remembered.get(this);
    if (known === undefined) return original.call(this, type, entity, filter);
    const question = `${type} ${filter}`;
    const answers = known.matches.get(question);
    if (answers !== undefined) {
      const { behaviorString } = this.getBehaviorForEntity(type, entity);
      if (answers.has(behaviorString)) return answers.get(behaviorString);
    }
    // The original comes first: it registers a new filter before it computes any behavior, and what is registered when a type's
    // first behavior is computed remains that type's default. So nothing may be asked beforehand.
    const answer = original.call(this, type, entity, filter);
    const { behaviorString } = this.getBehaviorForEntity(type, entity);
    const kept = known.matches.get(question) ?? new Map<string, boolean | undefined>();
    known.matches.set(question, kept.set(behaviorString, answer));
    return answer;
  };
}

function rememberingApplied(original: Apply) {
  return function getPreferencesAppliedBehaviors(
    this: Behavior,
    type: Parameters<Apply>[0],
    inferred: Resolved,
    override: Resolved,
  ): Combined {
    const known = remembered.get(this);
    const question = `${type} ${inferred.behaviorString}`;
    const step = known?.applied.get(question);
    if (step !== undefined) return combined(inferred, step, override);
    const whole = original.call(this, type, inferred, override);
    const own = whole.stack[inferred.stack.length];
    // Where another version puts it together in another way it is worked out each time.
    if (own !== undefined && combined(inferred, own, override).behaviorString === whole.behaviorString) {
      known?.applied.set(question, own);
    }
    return whole;
  };
}

const nothingBefore = "-* ";

interface Combined {
  readonly stack: Resolved["stack"];
  readonly behaviorString: string;
  toString(): string;
}

/** As graphile-build 5.1 puts it together. */
function combined(inferred: Resolved, step: Resolved["stack"][number], override: Resolved): Combined {
  const texts = [step.suffix.slice(nothingBefore.length), override.behaviorString];
  const behaviorString = texts.filter((text) => text !== "").join(" ");
  return {
    stack: [...inferred.stack, step, ...override.stack],
    behaviorString,
    toString: () => behaviorString,
  };
}
