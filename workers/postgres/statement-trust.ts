/**
 * Whether what is prepared on a connection is still what the host prepared, after other tenants' functions ran on it.
 *
 * Names of prepared statements belong to the session. Who can list them can put a statement in another's place, and who can
 * prepare can leave one behind. The argument stands in docs/adr/0014-keeping-prepared-statements.md.
 */
import type { TenantBinding, TenantGuard } from "../../src/shared/model/tenant-binding.ts";

/** The tenant that acquired a connection, and what its SQL could do to prepared statements. */
export type Borrower = Pick<TenantBinding, "tenant" | "prepares" | "lists" | "statementTag" | "guard">;

export class StatementTrust {
  /** Whether no role can list the names of prepared statements on this connection. */
  readonly #hidden: boolean;
  /** Whether transactions default to READ COMMITTED, so that an assertion sees what has been committed. */
  readonly #readCommitted: boolean;
  /** The tenant whose functions ran here last. */
  #last: Borrower | null = null;
  /** Whether that tenant's functions could have prepared anything since it first acquired the connection. */
  #prepares = false;
  /** Whether they could have listed anything since then. */
  #lists = false;
  #unproven: TenantGuard[] = [];

  constructor({ hidden, readCommitted }: { readonly hidden: boolean; readonly readCommitted: boolean }) {
    this.#hidden = hidden;
    this.#readCommitted = readCommitted;
  }

  /**
   * Records that `next` acquires the connection. Returns whether everything that is prepared has to be dropped first. Statements
   * that a tenant's functions prepared matter only once another tenant follows. Both tenants count, because either's functions
   * could tell such statements, and the answer for one may have changed a moment ago.
   */
  passTo(next: Borrower): boolean {
    const last = this.#last;
    const another = last !== null && last.tenant !== next.tenant;
    const drops = another && (next.prepares || this.#prepares || (!this.#hidden && !this.#keeps(last, next)));
    if (drops) this.#unproven = [];
    else if (another && !this.#hidden && last.guard !== null) this.#unproven.push(last.guard);
    const stays = last !== null && !another;
    this.#prepares = next.prepares || (this.#prepares && stays);
    // What held under the earlier revisions of a tenant that stays cannot be proved any more.
    this.#lists = next.lists || (stays && (this.#lists || last.statementTag !== next.statementTag));
    this.#last = next;
    return drops;
  }

  #keeps(last: Borrower, next: Borrower): boolean {
    return this.#readCommitted && !this.#lists && !next.lists && last.guard !== null && next.guard !== null;
  }

  /**
   * The schemas and revisions that have to be unmoved for what is prepared to be trusted: those of the tenants that have used the
   * connection since the last proof. Null if there is nothing to prove.
   */
  get toProve(): { readonly schemas: readonly string[]; readonly revisions: readonly string[] } | null {
    if (this.#unproven.length === 0) return null;
    return {
      schemas: this.#unproven.flatMap(({ schemas }) => schemas),
      revisions: this.#unproven.flatMap(({ revisions }) => revisions),
    };
  }

  /** To be called when `toProve` was proved, or everything prepared is going to be dropped. */
  settle(): void {
    this.#unproven = [];
  }
}
