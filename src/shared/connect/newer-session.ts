/** Whether a connection that is made now serves where an older one did not: behind a failover, the old ones may stay up. */
import { messageOf } from "../kernel/errors.ts";
import { parseSessionState, type SessionState, sessionStateQuery } from "./session-state.ts";

/** What is needed of a client. */
interface Asked {
  query(text: string): Promise<{ readonly rows: readonly unknown[] }>;
  end(): Promise<void>;
}

export interface NewerSessionOptions {
  /** A connection beside those of any pool. */
  readonly connect: () => Promise<Asked>;
  readonly serves: (state: SessionState) => boolean;
  /** Called where it does, before those hear of it who ask. */
  readonly onServes: () => void;
  /** Told when it no longer does, with the reason, and when it does again (null). */
  readonly onChange?: (reason: string | null) => void;
  /** How long it stands that it does not. */
  readonly standsMs: number;
  readonly now?: () => number;
}

/** Until it is asked again where nobody needs to know, and somebody looks. */
const lookAgainMs = 5_000;

export class NewerSession {
  readonly #options: NewerSessionOptions;
  #lacking = false;
  #askedMs = Number.NEGATIVE_INFINITY;
  #asking: Promise<boolean> | null = null;

  constructor(options: NewerSessionOptions) {
    this.#options = options;
  }

  /** Whether it serves; never rejects. Found out once, however many wait, and for a while where it does not. */
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

  /** Whether none was found that serves. Whoever looks now and then has it found out again. */
  get lacking(): boolean {
    if (this.#lacking && this.#nowMs() - this.#askedMs >= lookAgainMs) void this.ask();
    return this.#lacking;
  }

  /** Waits for what is under way. */
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
  if (typeof found === "string") return `another connection is not to be had: ${found}`;
  return found.standby ? "the server is a standby" : "default_transaction_read_only is on";
}
