/** Limits the length of lists such as `orderBy`, because each value becomes part of a statement. */
import {
  type DocumentNode,
  type GraphQLEnumType,
  type GraphQLSchema,
  getNamedType,
  isEnumType,
  type TypeNode,
  type ValidationRule,
} from "postgraphile/graphql";
import { refusal } from "./complexity.ts";

/**
 * An expression in ORDER BY takes a thread 45 µs, with its share of the SQL: 20,000 of them in one variable held it for 0.9 s
 * (PostGraphile 5.1.5). Nobody orders by more columns than a table has.
 */
const maxValues = 100;

function appliesValues(type: GraphQLEnumType): boolean {
  return type.getValues().some(({ extensions }) => {
    const { grafast } = extensions;
    return typeof grafast === "object" && grafast !== null && "apply" in grafast;
  });
}

const tooMany = (type: GraphQLEnumType): Error =>
  refusal("VARIABLES_TOO_LARGE", `A list holds more than ${maxValues} values of ${type.name}.`);

/** Checks lists that are written out in an operation. */
export const orderRule: ValidationRule = (context) => ({
  ListValue({ values }) {
    if (values.length <= maxValues) return;
    const type = getNamedType(context.getInputType());
    if (isEnumType(type) && appliesValues(type)) throw tooMany(type);
  },
});

/** The names of variables that are lists longer than such a type allows; null if there are none. */
export function longListsIn(variables: unknown): readonly string[] | null {
  if (typeof variables !== "object" || variables === null) return null;
  let found: string[] | null = null;
  for (const [name, value] of Object.entries(variables)) {
    if (!Array.isArray(value) || value.length <= maxValues) continue;
    found ??= [];
    found.push(name);
  }
  return found;
}

/**
 * Throws `VARIABLES_TOO_LARGE` if a variable in `longLists` is declared as a list of such a type; called before variables are
 * coerced.
 */
export function assertShortOrders(
  schema: GraphQLSchema,
  { definitions }: DocumentNode,
  longLists: readonly string[],
): void {
  for (const definition of definitions) {
    if (definition.kind !== "OperationDefinition") continue;
    for (const { variable, type } of definition.variableDefinitions ?? []) {
      if (!longLists.includes(variable.name.value)) continue;
      const declared = schema.getType(namedIn(type));
      if (isEnumType(declared) && appliesValues(declared)) throw tooMany(declared);
    }
  }
}

function namedIn(type: TypeNode): string {
  return type.kind === "NamedType" ? type.name.value : namedIn(type.type);
}
