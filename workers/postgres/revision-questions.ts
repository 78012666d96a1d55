/** Checks a tenant's revisions after a read failed in a way that an outdated plan would explain. */

import { LRUCache } from "lru-cache";
import pg from "pg";
import { pause } from "../../src/shared/kernel/duration.ts";
import { lazyLru } from "../../src/shared/kernel/lru-options.ts";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import { hasState } from "../../src/shared/postgres/sqlstate.ts";

/**
 * Syntax error or access rule violation (a relation, column, function or type that is missing, of another kind or type, or no
 * longer permitted), invalid schema name, and catalogue entries that vanished after PostgreSQL had found them.
 */
const outdatedCodes = /^(?:42...|3F000|XX000)$/;

/** Whether a changed schema may be why a read failed. */
export function looksOutdated(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  if (hasState(error, "invalid_text_representation")) return error.routine === "enum_in";
  return outdatedCodes.test(error.code ?? "");
}

interface Asked {
  /** Questions that have not been sent yet, by statement tag. */
  readonly waiting: Map<string, Promise<unknown>>;
  nextMs: number;
}

/** A tenant's function may raise such an error at will; ten questions a second are all that this can cost. */
const pauseMs = 100;
const maxTenants = 10_000;

export class RevisionQuestions<Parent> {
  readonly #ask: (binding: TenantBinding, parent?: Parent) => Promise<unknown>;
  readonly #asked = new LRUCache<string, Asked>(lazyLru(maxTenants));

  /** `ask` returns the failure that says that the tenant's schema has moved, or null. It must not reject. */
  constructor(ask: (binding: TenantBinding, parent?: Parent) => Promise<unknown>) {
    this.#ask = ask;
  }

  /**
   * The failure that says that the schema has moved since `binding`, or null. One question serves all callers before it is sent,
   * which takes at most a tenth of a second, however many reads of the tenant fail.
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
