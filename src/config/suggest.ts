/** Suggests the right place for keys at the top of the config that belong into a section. */
import { z } from "zod";
import { didYouMean } from "../validation/closest-name.ts";
import type { Fault } from "../validation/config-error.ts";
import { configSchema } from "./schema.ts";

const plain = "unknown key";

/** For an unknown key at the top, which may be misspelled or misplaced, adds the best guess to the fault. */
export function suggestSection(fault: Fault): Fault {
  const { path, message } = fault;
  if (!message.startsWith(plain) || /[.[]/.test(path)) return fault;
  const known = [...Object.keys(configSchema.shape), ...sectionKeys()];
  return { path, message: `${plain}${didYouMean(path, known)}` };
}

/** `cells.heapMb`, `databases.NAME.url`, and so on. */
function sectionKeys(): string[] {
  return Object.entries(configSchema.shape).flatMap(([section, schema]) => {
    const inner =
      schema instanceof z.ZodPrefault || schema instanceof z.ZodDefault ? schema.unwrap() : schema;
    if (inner instanceof z.ZodRecord) return keysOf(inner.valueType, `${section}.NAME`);
    return keysOf(inner, section);
  });
}

const keysOf = (schema: unknown, section: string): string[] =>
  schema instanceof z.ZodObject ? Object.keys(schema.shape).map((key) => `${section}.${key}`) : [];
