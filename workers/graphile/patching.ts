/** The patches of one thread: which are to be applied, and which turned out not to fit. */
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { PatchStates } from "../../src/shared/kernel/patch-policy.ts";
import type { PatchName } from "./patches.ts";

export class Patching {
  readonly #states: PatchStates;
  readonly #unfit = new Set<PatchName>();

  /** `states` were decided once for the process, so all its threads and builds go by the same. */
  constructor(states: PatchStates) {
    this.#states = states;
  }

  /**
   * Has `apply` put a patch for speed in place where it may be; `apply` returns whether it found the members it needs. Where it did
   * not, although the version is a known one, somebody else has changed them: the dependency's own way is taken.
   */
  apply(name: PatchName, apply: () => boolean): void {
    if (this.#states[name] === "applied" && !apply()) this.#unfit.add(name);
  }

  /** Throws `BUILD_FAILED` where a patch that safety depends on is refused; normally the host has not even started then. */
  assertSafe(): void {
    const refused = Object.entries(this.#states).filter(([, state]) => state === "refused");
    if (refused.length === 0) return;
    const names = refused.map(([name]) => name).join(", ");
    throw new HostError("BUILD_FAILED", `safety patches cannot be applied: ${names}; run "rowhouse doctor"`);
  }

  /** Patches that were to be applied and did not fit. */
  get unfit(): readonly PatchName[] {
    return [...this.#unfit];
  }
}
