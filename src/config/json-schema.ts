/**
 * The JSON schema of a config file, for editors. It is less strict than the checks at start: a file that it
 * accepts may still be invalid.
 */
import { z } from "zod";
import { formsOf } from "../validation/one-of.ts";
import { configSchema } from "./schema.ts";

/** The schema shipped in the package as `config.schema.json`, written by `bin/config-schema.js`. */
export function configJsonSchema(): Readonly<Record<string, unknown>> {
  const { $schema, properties, ...rest } = schemaOf(configSchema);
  return {
    $schema,
    title: "Rowhouse config",
    ...rest,
    properties: { $schema: { type: "string" }, ...(isRecord(properties) ? properties : {}) },
  };
}

function schemaOf(schema: z.ZodType): Readonly<Record<string, unknown>> {
  return z.toJSONSchema(schema, {
    io: "input",
    // What JSON schema cannot express is checked at start.
    unrepresentable: "any",
    override: ({ zodSchema, jsonSchema }) => {
      const forms = formsOf.get(zodSchema);
      if (forms !== undefined) {
        jsonSchema.anyOf = forms.map((form) => {
          const { $schema: _, ...inner } = schemaOf(form);
          return inner;
        });
      }
      if (zodSchema instanceof z.ZodUndefined) jsonSchema.not = {};
    },
  });
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
