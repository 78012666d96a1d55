import { describe, expect, it } from "vitest";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import { RequestScope } from "../../workers/request/request-scope.ts";

const open = (ledger = new Int8Array(new SharedArrayBuffer(1))): RequestScope =>
  new RequestScope({
    slot: 0,
    binding: {
      tenant: tenantId("acme"),
      searchPath: ["acme"],
      statementTag: "tag",
      roles: [],
      prepares: false,
      notifies: false,
      guard: null,
    },
    basePath: "",
    settings: {},
    signing: null,
    ledger,
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

  it("is a standard AbortSignal", async () => {
    const scope = open();
    const waiting = new Promise((resolve) =>
      AbortSignal.any([scope.signal]).addEventListener("abort", resolve),
    );
    scope.cancel();
    await waiting;
  });
});

describe("a request whose slot may belong to another by now", () => {
  it.each<[string, (scope: RequestScope) => void]>([
    ["as a stream's that the host gave up while it wrote", (scope) => scope.releaseSlot()],
    ["as one that was answered while a plugin's write went on", (scope) => scope.close()],
  ])("%s, removes no mark: the other may have committed", async (_, leave) => {
    const ledger = new Int8Array(new SharedArrayBuffer(1));
    const before = open(ledger);
    const refusal = Promise.withResolvers<never>();
    const failing = before.committing(
      () => refusal.promise,
      () => false,
    );
    leave(before);
    ledger[0] = 0;
    const after = open(ledger);
    expect([before.mayHaveCommitted, after.mayHaveCommitted]).toEqual([true, false]);
    void after.committing(
      () => new Promise(() => {}),
      () => false,
    );
    refusal.reject(new Error("refused"));
    await expect(failing).rejects.toThrow("refused");
    expect([before.mayHaveCommitted, after.mayHaveCommitted, ledger[0]]).toEqual([false, true, 1]);
  });

  it("removes its own mark while it has the slot", async () => {
    const ledger = new Int8Array(new SharedArrayBuffer(1));
    const scope = open(ledger);
    const refused = scope.committing(
      () => Promise.reject(new Error("refused")),
      () => false,
    );
    expect(ledger[0]).toBe(1);
    await expect(refused).rejects.toThrow("refused");
    expect([scope.mayHaveCommitted, ledger[0]]).toEqual([false, 0]);
  });
});
