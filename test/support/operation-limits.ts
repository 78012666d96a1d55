import type { OperationLimits } from "../../src/shared/protocol/messages.ts";

/** The default limits of an operation. */
export const operationLimits: OperationLimits = {
  fields: 1_000,
  depth: 16,
  variables: 20_000,
  variablesDepth: 64,
  introspection: true,
};
