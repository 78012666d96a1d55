/** Makes a built schema smaller without changing what anybody reads of it. */
import {
  type GraphQLSchema,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isObjectType,
  isSpecifiedScalarType,
} from "postgraphile/graphql";

/** What types, fields, arguments and enum values have in common. */
interface Element {
  description?: string | null | undefined;
  extensions: Readonly<Record<string | symbol, unknown>>;
}

/**
 * Replaces two things that each type, field, argument and enum value of `schema` has by smaller ones that are equal.
 *
 * `extensions` without a prototype are hash tables to V8 (Node 24.21): 180 bytes for nearly always one entry, or none. With the same
 * entry and a prototype taken away later they are ordinary objects of 32.
 *
 * Descriptions are ropes of the pieces of their templates, and often the same: each becomes one flat string.
 */
export function compactSchema(schema: GraphQLSchema): void {
  const texts = new Map<string, string>();
  const compact = (element: Element): void => {
    element.extensions = lighter(element.extensions);
    const { description } = element;
    if (typeof description === "string") element.description = flatIn(texts, description);
  };
  for (const type of Object.values(schema.getTypeMap())) {
    if (isIntrospectionType(type) || isSpecifiedScalarType(type)) continue;
    compact(type);
    if (isObjectType(type) || isInterfaceType(type)) {
      for (const field of Object.values(type.getFields())) {
        compact(field);
        for (const argument of field.args) compact(argument);
      }
    } else if (isInputObjectType(type)) for (const field of Object.values(type.getFields())) compact(field);
    else if (isEnumType(type)) for (const value of type.getValues()) compact(value);
  }
}

function lighter(extensions: Element["extensions"]): Element["extensions"] {
  if (Object.getPrototypeOf(extensions) !== null || !Object.isExtensible(extensions)) return extensions;
  const names = Reflect.ownKeys(extensions);
  if (names.length === 0) return Object.setPrototypeOf({}, null);
  if (names.length > 1 || names[0] !== "grafast") return extensions;
  const { grafast } = extensions;
  return Object.setPrototypeOf({ grafast }, null);
}

function flatIn(texts: Map<string, string>, text: string): string {
  const known = texts.get(text);
  if (known !== undefined) return known;
  // Concatenation makes a rope, decoding bytes does not. A broken surrogate would not survive it.
  const decoded = Buffer.from(text).toString();
  const flat = decoded === text ? decoded : text;
  texts.set(flat, flat);
  return flat;
}
