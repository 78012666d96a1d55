/** Measures how much an operation asks for, ahead of the other validation rules. */
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
  /** Selected fields; those of a fragment count wherever it is spread. */
  readonly fields: number;
  /** Nesting of selections, without those of introspection, which GraphQL.js limits itself. */
  readonly depth: number;
  readonly introspects: boolean;
}

const nothing: Extent = { fields: 0, depth: 0, introspects: false };

/**
 * The largest extent among the operations of `document`. Takes time linear in the document, because each fragment is measured
 * once: twenty fragments that each spread the next one twice select a million fields. The libraries walk all of those, or
 * (`@graphile/depth-limit` 0.3.1) ignore selections on interfaces.
 */
export function extentOf(document: DocumentNode): Extent {
  const fragments = fragmentsOf(document);
  const known = new Map<string, Extent>();

  const ofFragment = (name: string): Extent => {
    const before = known.get(name);
    if (before !== undefined) return before;
    // A cycle of fragments is refused by other rules; here it counts once.
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

function fragmentsOf({ definitions }: DocumentNode): ReadonlyMap<string, FragmentDefinitionNode> {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of definitions) {
    if (definition.kind === "FragmentDefinition") fragments.set(definition.name.value, definition);
  }
  return fragments;
}

/** Refuses the whole request, with a code like the host's own. */
export function refusal(code: ErrorCode, message = errorTable[code].publicText ?? code): SafeError {
  return new SafeError(message, { statusCode: errorTable[code].status, code });
}

/** Stops validation at its start if an operation asks for too much, because the other rules walk every spread. */
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
