import type { OperationLimits } from "../../src/shared/protocol/messages.ts";

/** What an operation may ask for unless a config says otherwise. */
export const operationLimits: OperationLimits = {
  fields: 1_000,
  depth: 16,
  variables: 20_000,
  variablesDepth: 64,
  introspection: true,
};
