/** The names of what a pooled instance leaves out, and what its SQL calls that instead. */
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import { calledName } from "./schema-placeholders.ts";

/**
 * In front of the name of something left out, where everything else in a pooled instance goes by its bare name: that would find another
 * object. There is no such schema, nor can a tenant make one: PostgreSQL keeps names that begin so for itself. A statement that has it
 * is not sent (`StatementNames`).
 */
export const leftOutSchema = "pg_rowhouse_left_out";

export class LeftOutNames {
  /** What the build calls a schema → names in it → why they are left out. */
  readonly #reasons = new Map<string, Map<string, string>>();
  /** By name alone. */
  readonly all = new Map<string, string>();

  constructor({ schemas, leftOut = [] }: Pick<BlueprintSpec, "schemas"> & Partial<BlueprintSpec>) {
    for (const { schema, name, reason } of leftOut) {
      const called = calledName(schema, schemas);
      const names = this.#reasons.get(called) ?? new Map<string, string>();
      this.#reasons.set(called, names.set(name, reason));
      this.all.set(name, reason);
    }
  }

  /** Names in the schema that the build calls so, each with why it is left out. */
  in(called: string): ReadonlyMap<string, string> {
    return this.#reasons.get(called) ?? none;
  }
}

const none: ReadonlyMap<string, string> = new Map();
