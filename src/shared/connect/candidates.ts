/** The ways to connect to a database, in libpq's order; those that failed recently come last. */
import type { ConnectionTarget, HostPlace, SessionAttributes, SslMode } from "./url.ts";

/** One way to connect. */
export interface Candidate {
  readonly place: HostPlace;
  readonly tls: boolean;
  /** What the session must satisfy. */
  readonly attributes: SessionAttributes;
}

/** What failed: the host, its use of TLS, or the state of the session. */
export type Failure = "host" | "encryption" | "attributes";

/**
 * How long a failed candidate is skipped while there is another. A server hardly ever starts to support TLS,
 * so that lasts longest.
 */
const passedOverMs: Readonly<Record<Failure, number>> = {
  host: 15_000,
  encryption: 60_000,
  attributes: 1_000,
};

/**
 * In libpq's order: for each host with and without TLS (or the reverse); `prefer-standby` goes through all of
 * them twice.
 */
export function candidatesOf({ hosts, tls, attributes }: ConnectionTarget): readonly Candidate[] {
  const passes: readonly SessionAttributes[] =
    attributes === "prefer-standby" ? ["standby", "any"] : [attributes];
  return passes.flatMap((asked) =>
    hosts.flatMap((place) =>
      encryptions(tls.mode, place).map((encrypted) => ({ place, tls: encrypted, attributes: asked })),
    ),
  );
}

function encryptions(mode: SslMode, { host }: HostPlace): readonly boolean[] {
  // A Unix socket has no TLS, and needs none.
  if (mode === "disable" || host.startsWith("/")) return [false];
  if (mode === "allow") return [false, true];
  return mode === "prefer" ? [true, false] : [true];
}

export class Candidates {
  readonly #all: readonly Candidate[];
  readonly #now: () => number;
  readonly #untilMs = new Map<Candidate, number>();

  constructor(all: readonly Candidate[], now = (): number => performance.now()) {
    this.#all = all;
    this.#now = now;
  }

  /** The first candidate that has not failed recently; if all have, the one whose pause ends first. */
  next(): Candidate {
    const nowMs = this.#now();
    const [first, ...others] = this.#all;
    if (first === undefined) throw new RangeError("there is no way to connect");
    let best = first;
    for (const each of others) {
      if (this.#waitsMs(best, nowMs) > 0 && this.#waitsMs(each, nowMs) < this.#waitsMs(best, nowMs))
        best = each;
    }
    return best;
  }

  /** Whether a candidate is left that has not failed recently. */
  get hasNext(): boolean {
    const nowMs = this.#now();
    return this.#all.some((each) => this.#waitsMs(each, nowMs) === 0);
  }

  /** Whether the same host can still be tried with TLS instead of without, or the reverse. */
  hasOtherEncryption(candidate: Candidate): boolean {
    const nowMs = this.#now();
    return this.#all.some(
      (each) =>
        each.place === candidate.place &&
        each.attributes === candidate.attributes &&
        each.tls !== candidate.tls &&
        this.#waitsMs(each, nowMs) === 0,
    );
  }

  /** Skips `candidate`, and others that share the fault, for a while. */
  failed(candidate: Candidate, failure: Failure): void {
    const untilMs = this.#now() + passedOverMs[failure];
    for (const each of this.#all) {
      const same =
        each.place === candidate.place &&
        (failure === "host" ||
          (failure === "encryption" ? each.tls === candidate.tls : each.attributes === candidate.attributes));
      if (same) this.#untilMs.set(each, untilMs);
    }
  }

  worked(candidate: Candidate): void {
    this.#untilMs.delete(candidate);
  }

  #waitsMs(candidate: Candidate, nowMs: number): number {
    return Math.max(0, (this.#untilMs.get(candidate) ?? 0) - nowMs);
  }
}
