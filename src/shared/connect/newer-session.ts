/**
 * Whether a new connection would serve where an older one did not: after a failover, old connections may stay
 * up.
 */
import { messageOf } from "../kernel/errors.ts";
import { parseSessionState, type SessionState, sessionStateQuery } from "./session-state.ts";

/** The part of a client that is needed here. */
interface Asked {
  query(text: string): Promise<{ readonly rows: readonly unknown[] }>;
  end(): Promise<void>;
}

export interface NewerSessionOptions {
  /** Opens a connection outside any pool. */
  readonly connect: () => Promise<Asked>;
  readonly serves: (state: SessionState) => boolean;
  /** Called when a new connection serves, before the callers of `ask` get their answer. */
  readonly onServes: () => void;
  /** Called with the reason when new connections stop serving, and with null when they serve again. */
  readonly onChange?: (reason: string | null) => void;
  /** How long a negative answer stays valid. */
  readonly standsMs: number;
  readonly now?: () => number;
}

/** Interval at which reading `lacking` triggers a new check. */
const lookAgainMs = 5_000;

export class NewerSession {
  readonly #options: NewerSessionOptions;
  #lacking = false;
  #askedMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<boolean> | null = null;

  constructor(options: NewerSessionOptions) {
    this.#options = options;
  }

  /**
   * Whether a new connection serves; never rejects. Concurrent callers share one check, and a negative answer
   * is kept for `standsMs`.
   */
  ask(): Promise<boolean> {
    if (this.#asking !== null) return this.#asking;
    if (this.#lacking && this.#nowMs() - this.#askedMs < this.#options.standsMs)
      return Promise.resolve(false);
    const asking = this.#ask().finally(() => {
      this.#asking = null;
    });
    this.#asking = asking;
    return asking;
  }

  /**
   * Whether the last check found no connection that serves. Reading it starts a new check if the last one is
   * too old.
   */
  get lacking(): boolean {
    if (this.#lacking && this.#nowMs() - this.#askedMs >= lookAgainMs) void this.ask();
    return this.#lacking;
  }

  /** Waits for a check in progress. */
  async close(): Promise<void> {
    await this.#asking;
  }

  async #ask(): Promise<boolean> {
    const { serves, onServes, onChange } = this.#options;
    const found = await this.#look().catch((error: unknown) => messageOf(error));
    const did = !this.#lacking;
    this.#lacking = typeof found === "string" || !serves(found);
    this.#askedMs = this.#nowMs();
    if (!this.#lacking) onServes();
    if (this.#lacking === did) onChange?.(this.#lacking ? reasonFor(found) : null);
    return !this.#lacking;
  }

  async #look(): Promise<SessionState> {
    const client = await this.#options.connect();
    try {
      return parseSessionState((await client.query(sessionStateQuery)).rows);
    } finally {
      await client.end();
    }
  }

  #nowMs(): number {
    return (this.#options.now ?? (() => performance.now()))();
  }
}

function reasonFor(found: SessionState | string): string {
  if (typeof found === "string") return `no new connection can be opened: ${found}`;
  return found.standby ? "the server is a standby" : "default_transaction_read_only is on";
}
