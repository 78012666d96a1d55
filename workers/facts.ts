/// <reference types="postgraphile" preserve="true" />
/** What a plugin may know of the instance that it is built into. */
import type { BlueprintSpec } from "../src/protocol/messages.ts";
import { builtNames } from "./schema-names.ts";

export interface InstanceFacts {
  readonly kind: "pooled" | "dedicated";
  /** In order. `built` is what the catalogue is read by while the instance is built: see `builtNames`. */
  readonly schemas: readonly { readonly logical: string; readonly built: string }[];
  readonly sharedSchemas: readonly string[];
}

declare global {
  namespace GraphileConfig {
    /** Graphile hands it to the hooks of every phase of one build, and to its requests: the same object. */
    interface Lib {
      rowhouse?: InstanceFacts;
    }
  }
}

export function instanceFacts(spec: BlueprintSpec): InstanceFacts {
  const names = builtNames(spec);
  return {
    kind: spec.kind,
    schemas: spec.schemas.map(({ logical, physical }, index) => ({
      logical,
      built: names[index] ?? physical,
    })),
    sharedSchemas: spec.sharedSchemas,
  };
}
