import { describe, expect, it } from "vitest";
import { unlessAborted } from "../../src/shared/kernel/abortable.ts";
import { CancellationSource } from "../../src/shared/kernel/cancellation.ts";

const refusal = (): Error => new Error("refused");

describe("work that is given up on an abort", () => {
  it("settles as it does by itself while nothing aborts, and leaves no listener behind", async () => {
    const source = new CancellationSource();
    let refusals = 0;
    const counted = (): Error => {
      refusals += 1;
      return refusal();
    };
    expect(await unlessAborted(source, counted, async () => "done")).toBe("done");
    await expect(unlessAborted(source, counted, () => Promise.reject(new Error("its own")))).rejects.toThrow(
      "its own",
    );
    source.abort();
    expect(refusals).toBe(0);
  });

  it("is refused at once when the signal aborts, whatever it does later", async () => {
    const source = new CancellationSource();
    const { promise, reject } = Promise.withResolvers<never>();
    const work = unlessAborted(source, refusal, () => promise);
    source.abort();
    await expect(work).rejects.toThrow("refused");
    // Nobody awaits it any more, and an unhandled rejection would end the process.
    reject(new Error("too late"));
  });

  it("is not begun after the abort", async () => {
    let begun = false;
    const work = unlessAborted(AbortSignal.abort(), refusal, async () => {
      begun = true;
    });
    await expect(work).rejects.toThrow("refused");
    expect(begun).toBe(false);
  });

  it("goes on to its end once it ignores aborts", async () => {
    const source = new CancellationSource();
    const { promise, resolve } = Promise.withResolvers<string>();
    const work = unlessAborted(source, refusal, (ignoreAbort) => {
      ignoreAbort();
      return promise;
    });
    source.abort();
    resolve("done");
    expect(await work).toBe("done");
  });
});
