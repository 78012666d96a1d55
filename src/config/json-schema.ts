/** The JSON schema of a config file, for editors. It says less than the checks at start do: a file that it takes may still be wrong. */
import { z } from "zod";
import { formsOf } from "../validation/one-of.ts";
import { configSchema } from "./schema.ts";

/** As it ships in the package: `config.schema.json`, written by `bin/config-schema.js`. */
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
    // What is left is checked at start.
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
