/** How much an operation asks for, before anything is made of it. */
import { SafeError } from "postgraphile/grafast";
import type {
  DocumentNode,
  FragmentDefinitionNode,
  SelectionSetNode,
  ValidationRule,
} from "postgraphile/graphql";
import { type ErrorCode, errorTable, unreachable } from "../../src/shared/kernel/errors.ts";
import type { OperationLimits } from "../../src/shared/protocol/messages.ts";

export interface Extent {
  /** Fields that it selects, fragments counted where they are spread. */
  readonly fields: number;
  /** Selections inside one another, those of introspection apart: GraphQL.js limits what of it multiplies. */
  readonly depth: number;
  readonly introspects: boolean;
}

const nothing: Extent = { fields: 0, depth: 0, introspects: false };

/**
 * The largest extents that operations of `document` have. In time linear in the document, each fragment being measured once: twenty
 * fragments that spread the next one twice select a million fields. Written here because the libraries walk all of those,
 * or (`@graphile/depth-limit` 0.3.1) do not look into what is selected of an interface.
 */
export function extentOf(document: DocumentNode): Extent {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions) {
    if (definition.kind === "FragmentDefinition") fragments.set(definition.name.value, definition);
  }
  const known = new Map<string, Extent>();

  const ofFragment = (name: string): Extent => {
    const before = known.get(name);
    if (before !== undefined) return before;
    // A circle of fragments is for the other rules to refuse; here it counts once.
    known.set(name, nothing);
    const fragment = fragments.get(name);
    const extent = fragment === undefined ? nothing : ofSelections(fragment.selectionSet);
    known.set(name, extent);
    return extent;
  };
  const ofSelections = (set: SelectionSetNode): Extent => {
    let fields = 0;
    let depth = 0;
    let introspects = false;
    for (const selection of set.selections) {
      let inner = nothing;
      switch (selection.kind) {
        case "Field": {
          fields += 1;
          const introspection = selection.name.value === "__schema" || selection.name.value === "__type";
          introspects ||= introspection;
          if (selection.selectionSet === undefined) continue;
          inner = ofSelections(selection.selectionSet);
          if (!introspection) depth = Math.max(depth, inner.depth + 1);
          break;
        }
        case "InlineFragment":
          inner = ofSelections(selection.selectionSet);
          depth = Math.max(depth, inner.depth);
          break;
        case "FragmentSpread":
          inner = ofFragment(selection.name.value);
          depth = Math.max(depth, inner.depth);
          break;
        default:
          unreachable(selection);
      }
      fields += inner.fields;
      introspects ||= inner.introspects;
    }
    return { fields, depth, introspects };
  };

  let extent = nothing;
  for (const definition of document.definitions) {
    if (definition.kind !== "OperationDefinition") continue;
    const { fields, depth, introspects } = ofSelections(definition.selectionSet);
    extent = {
      fields: Math.max(extent.fields, fields),
      depth: Math.max(extent.depth, depth),
      introspects: extent.introspects || introspects,
    };
  }
  return extent;
}

/** A refusal of the whole request, with a code as the host's own have. */
export function refusal(code: ErrorCode, message = errorTable[code].publicText ?? code): SafeError {
  return new SafeError(message, { statusCode: errorTable[code].status, code });
}

/** Ends validation at its start where an operation asks for too much: the other rules walk what it spreads. */
export function extentRule(limits: OperationLimits): ValidationRule {
  return () => ({
    Document(document) {
      const { fields, depth, introspects } = extentOf(document);
      if (fields > limits.fields) {
        throw refusal("OPERATION_TOO_COMPLEX", `The operation selects more than ${limits.fields} fields.`);
      }
      if (depth > limits.depth) {
        throw refusal("OPERATION_TOO_COMPLEX", `The operation is more than ${limits.depth} levels deep.`);
      }
      if (introspects && !limits.introspection) throw refusal("INTROSPECTION_DISABLED");
    },
  });
}
