/** Asks for a tenant's revisions where a read has failed as one does that was planned for an older schema. */
import { LRUCache } from "lru-cache";
import pg from "pg";
import { pause } from "../../src/shared/kernel/duration.ts";
import { lazyLru } from "../../src/shared/kernel/lru-options.ts";
import type { TenantBinding } from "../../src/shared/protocol/messages.ts";

/**
 * Syntax error or access rule violation (a relation, column, function or type that is not there, is of another kind or type, or may not be
 * used any more), invalid schema name, and what is missed in the catalogue after PostgreSQL has found it.
 */
const outdatedCodes = /^(?:42...|3F000|XX000)$/;

/** Whether a changed schema may be why a read failed. */
export function looksOutdated(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  if (error.code === "22P02") return error.routine === "enum_in";
  return outdatedCodes.test(error.code ?? "");
}

interface Asked {
  /** By the tag of what was planned: a question that has not been sent yet. */
  readonly waiting: Map<string, Promise<unknown>>;
  nextMs: number;
}

/** A tenant's function may raise such an error whenever it likes: ten questions a second are all that it costs. */
const pauseMs = 100;
const maxTenants = 10_000;

export class RevisionQuestions<Parent> {
  readonly #ask: (binding: TenantBinding, parent?: Parent) => Promise<unknown>;
  readonly #asked = new LRUCache<string, Asked>(lazyLru(maxTenants));

  /** `ask` gives what says that the tenant's schema has moved, or null; it does not reject. */
  constructor(ask: (binding: TenantBinding, parent?: Parent) => Promise<unknown>) {
    this.#ask = ask;
  }

  /**
   * What says that the schema has moved which `binding` tells of, or null. It is asked after the call, by one question for all who call before
   * it is sent: at most a tenth of a second later, however many reads of the tenant fail.
   */
  moved(binding: TenantBinding, parent?: Parent): Promise<unknown> {
    const { tenant, statementTag: tag } = binding;
    const asked = this.#asked.get(tenant) ?? { waiting: new Map(), nextMs: 0 };
    const before = asked.waiting.get(tag);
    if (before !== undefined) return before;
    const nowMs = performance.now();
    const delayMs = Math.max(0, asked.nextMs - nowMs);
    asked.nextMs = nowMs + delayMs + pauseMs;
    const question = pause(delayMs).then(() => {
      asked.waiting.delete(tag);
      return this.#ask(binding, parent);
    });
    asked.waiting.set(tag, question);
    this.#asked.set(tenant, asked);
    return question;
  }
}
