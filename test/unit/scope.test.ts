import { describe, expect, it } from "vitest";
import { tenantId } from "../../src/kernel/ids.ts";
import { RequestScope } from "../../workers/scope.ts";

const open = (): RequestScope =>
  new RequestScope({
    slot: 0,
    binding: {
      tenant: tenantId("acme"),
      searchPath: ["acme"],
      statementTag: "tag",
      roles: [],
      prepares: false,
      guard: null,
    },
    basePath: "",
    settings: {},
    signing: null,
    ledger: new Int8Array(new SharedArrayBuffer(1)),
  });

describe("the signal of a request in its thread", () => {
  it("aborts when the request is cancelled, whenever it was asked for", () => {
    const scope = open();
    const before = scope.signal;
    expect([scope.stop.aborted, before.aborted]).toEqual([false, false]);
    scope.cancel();
    expect([scope.stop.aborted, before.aborted]).toEqual([true, true]);
    expect(scope.signal).toBe(before);
    const late = open();
    late.cancel();
    expect(late.signal.aborted).toBe(true);
  });

  it("is an AbortSignal, which everything else takes", async () => {
    const scope = open();
    const waiting = new Promise((resolve) =>
      AbortSignal.any([scope.signal]).addEventListener("abort", resolve),
    );
    scope.cancel();
    await waiting;
  });
});
