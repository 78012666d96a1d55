/** How much an operation selects, before anything is made of it. */
import { SafeError } from "postgraphile/grafast";
import type {
  DocumentNode,
  FragmentDefinitionNode,
  SelectionSetNode,
  ValidationRule,
} from "postgraphile/graphql";
import { unreachable } from "../src/kernel/errors.ts";

/** What GraphiQL asks of a schema selects 250 fields; a cell of 256 MB plans 4,000 without harm, in seconds. */
export const mostFields = 5_000;

/**
 * Fields that the largest operation of `document` selects, fragments counted where they are spread. In time linear in
 * the document, each fragment being counted once: twenty fragments that spread the next one twice select a million fields, and
 * libraries that count them walk all of them.
 */
export function selectedFields(document: DocumentNode): number {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions) {
    if (definition.kind === "FragmentDefinition") fragments.set(definition.name.value, definition);
  }
  const counted = new Map<string, number>();

  const ofFragment = (name: string): number => {
    const known = counted.get(name);
    if (known !== undefined) return known;
    // A circle of fragments is for the other rules to refuse; here it counts once.
    counted.set(name, 0);
    const fragment = fragments.get(name);
    const count = fragment === undefined ? 0 : ofSelections(fragment.selectionSet);
    counted.set(name, count);
    return count;
  };
  const ofSelections = (set: SelectionSetNode): number =>
    set.selections.reduce((sum, selection) => {
      switch (selection.kind) {
        case "Field":
          return sum + 1 + (selection.selectionSet === undefined ? 0 : ofSelections(selection.selectionSet));
        case "InlineFragment":
          return sum + ofSelections(selection.selectionSet);
        case "FragmentSpread":
          return sum + ofFragment(selection.name.value);
        default:
          return unreachable(selection);
      }
    }, 0);

  return document.definitions.reduce(
    (most, definition) =>
      definition.kind === "OperationDefinition"
        ? Math.max(most, ofSelections(definition.selectionSet))
        : most,
    0,
  );
}

/** Ends validation at its start where the document selects too much: the other rules walk what it spreads. */
export const complexityRule: ValidationRule = () => ({
  Document(document) {
    const fields = selectedFields(document);
    if (fields <= mostFields) return;
    throw new SafeError(`The operation selects more than ${mostFields} fields.`, {
      statusCode: 400,
      code: "BAD_REQUEST",
    });
  },
});
