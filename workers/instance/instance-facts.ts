/// <reference types="postgraphile" preserve="true" />
/** What a plugin may know about the instance it is built into. */
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import { calledName } from "../postgres/schema-placeholders.ts";

export interface InstanceFacts {
  readonly kind: "pooled" | "dedicated";
  /** The served schemas, in order. `physical` is null in a pooled instance, which has no schemas of its own. */
  readonly schemas: readonly { readonly logical: string; readonly physical: string | null }[];
  readonly sharedSchemas: readonly string[];
  /** What SQL of the instance must not name, by what the build calls its schema. */
  readonly leftOut: readonly { readonly schema: string; readonly name: string }[];
}

declare global {
  namespace GraphileConfig {
    /** Graphile passes this same object to the hooks of every phase of one build, and to its requests. */
    interface Lib {
      rowhouse?: InstanceFacts;
    }
  }
}

export function instanceFacts(spec: BlueprintSpec): InstanceFacts {
  return {
    kind: spec.kind,
    schemas: spec.schemas.map(({ logical, physical }) => ({
      logical,
      physical: spec.kind === "pooled" ? null : physical,
    })),
    sharedSchemas: spec.sharedSchemas,
    leftOut: spec.leftOut.map(({ schema, name }) => ({ schema: calledName(schema, spec.schemas), name })),
  };
}
