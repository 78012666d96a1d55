import type { RequestTask } from "../../src/shared/protocol/messages.ts";

/** A minimal request to a cell, overridden by `own`. */
export function requestTask(own: Partial<RequestTask> = {}): RequestTask {
  return {
    kind: "request",
    slot: 0,
    instance: 1,
    binding: "{}",
    settings: {},
    signing: null,
    method: "POST",
    path: "/graphql",
    basePath: "",
    query: "",
    headers: {},
    body: null,
    ...own,
  };
}
