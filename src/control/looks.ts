/**
 * Finds changes that nothing announces, by polling the catalogue if there are no event triggers, and the
 * revisions.
 */
import { z } from "zod";
import type { Observe } from "../observability/observation.ts";
import type { Database, Queryable } from "../postgres/database.ts";
import { pause } from "../shared/kernel/duration.ts";
import { messageOf } from "../shared/kernel/errors.ts";
import { hasState } from "../shared/postgres/sqlstate.ts";
import { digestQuery } from "./digest.ts";

/** How manual changes are detected in a database, as shown to operators. */
export interface ChangesView {
  /** `events`: event triggers move revisions at once. `looks`: hosts poll for changes. */
  readonly by: "events" | "looks";
  /**
   * `revisions`: only those are polled, because the notification of a change may be missing; null: neither is
   * needed.
   */
  readonly looksAt: "catalogue" | "revisions" | null;
  readonly everyMs: number;
  /** Time of the last completed look, by this host or another for all; null: never. */
  readonly lookedAt: string | null;
  /**
   * Whether a detected change moves the revision, so that every host's guard sees it; otherwise only this
   * host decides anew.
   */
  readonly moves: boolean;
}

/** Receives what was found. */
export interface LooksTarget {
  /** Called with all revisions if any has changed since the last time. */
  readonly revisions: (database: string, revisions: ReadonlyMap<string, bigint>) => void;
  /** Called with schemas that may have changed without a new revision. */
  readonly changed: (database: string, schemas: readonly string[]) => void;
}

export interface LooksOptions {
  readonly database: Pick<Database, "name" | "query" | "transaction">;
  /**
   * Whether the database keeps revisions, and whether event triggers maintain them, as known before the first
   * look.
   */
  readonly control: boolean;
  readonly eventTriggers: boolean;
  readonly everyMs: number;
  readonly observe: Observe;
  readonly target: LooksTarget;
}

/**
 * Maximum share of one PostgreSQL core used for polling, however many tenants there are and however short the
 * interval is.
 */
const maxShare = 0.05;

const surroundings = z.object({ triggers: z.boolean(), prepares: z.boolean(), recovers: z.boolean() });
const turnRow = z.object({ turn: z.boolean() });
const changedRow = z.object({ changed: z.array(z.string()) });
const digestRows = z.array(z.object({ name: z.string(), digest: z.string() }));
const sumRow = z.object({ sum: z.string() });
const revisionRows = z.array(
  z.object({ schema_name: z.string(), revision: z.string().transform((text) => BigInt(text)) }),
);

/** Polls one database from `open` until `close`. */
export class Looks {
  readonly #options: LooksOptions;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #view: ChangesView;
  /** What this host saw itself, if it may not look on behalf of all hosts. */
  #seen: ReadonlyMap<string, string> | null = null;
  /** Checksum of all revisions when they were last reported. */
  #sum: string | null = null;
  /** How long PostgreSQL took to read the catalogue. */
  #tookMs = 0;
  /** Whether the last look failed; an outage is reported once. */
  #failing = false;

  constructor(options: LooksOptions) {
    this.#options = options;
    const { control, eventTriggers, everyMs } = options;
    const byEvents = control && eventTriggers;
    this.#view = {
      by: byEvents ? "events" : "looks",
      looksAt: byEvents ? null : "catalogue",
      everyMs,
      lookedAt: null,
      moves: control,
    };
  }

  get view(): ChangesView {
    return this.#view;
  }

  open(): void {
    this.#running ??= this.#keepLooking();
  }

  /** Resolves when the look in progress, if any, has ended. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #keepLooking(): Promise<void> {
    const { everyMs, database, observe } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.#tookMs = 0;
      try {
        await this.#look();
        this.#failing = false;
      } catch (error) {
        if (!this.#failing && !signal.aborted) {
          observe({ kind: "look.failed", database: database.name, message: messageOf(error) });
        }
        this.#failing = true;
      }
      await pause(Math.max(everyMs, this.#tookMs / maxShare), signal);
    }
  }

  async #look(): Promise<void> {
    const { database, control, everyMs } = this.#options;
    // Checked every time: triggers can be dropped, and a restore leaves them out if the role may not create
    // them.
    const { triggers, prepares, recovers } = surroundings.parse(
      (await database.query(surroundingsQuery)).rows[0],
    );
    const readsCatalogue = !triggers || !control;
    // A standby cannot move revisions: it receives the primary's by replication.
    const moves = readsCatalogue && control && !recovers && (await this.#move());
    if (readsCatalogue && !moves) await this.#compare();
    const readsRevisions = control && (readsCatalogue || prepares || recovers);
    if (readsRevisions) await this.#readRevisions();
    this.#view = {
      by: triggers && control ? "events" : "looks",
      looksAt: readsCatalogue ? "catalogue" : readsRevisions ? "revisions" : null,
      everyMs,
      lookedAt: new Date().toISOString(),
      moves: moves || (control && triggers),
    };
  }

  /**
   * Looks on behalf of all hosts, unless another has just done so, and moves the revisions of what changed.
   * False if this role may not.
   */
  async #move(): Promise<boolean> {
    const { database, everyMs, observe } = this.#options;
    try {
      const changed = await database.transaction(async (transaction) => {
        await transaction.query("set transaction isolation level read committed, read write");
        // Half the interval: if a host ends, its turn goes to one that would otherwise ask a moment too
        // early.
        const { rows } = await transaction.query("select rowhouse.begin_look($1::interval) as turn", [
          `${everyMs / 2} milliseconds`,
        ]);
        if (!turnRow.parse(rows[0]).turn) return [];
        await transaction.query(lookSettings);
        const noted = await this.#timed(
          transaction,
          `select rowhouse.note_look(array_agg(name), array_agg(digest)) as changed from (${digestQuery}) seen`,
        );
        return changedRow.parse(noted.rows[0]).changed;
      });
      this.#seen = null;
      if (changed.length > 0) {
        observe({ kind: "look.found", database: database.name, schemas: changed.length, moved: true });
      }
      return true;
    } catch (error) {
      if (!hasState(error, "insufficient_privilege")) throw error;
      return false;
    }
  }

  /**
   * Looks for this host alone. A schema seen for the first time may have changed since its tenants were
   * decided.
   */
  async #compare(): Promise<void> {
    const { database, observe, target } = this.#options;
    const rows = await database.transaction(async (transaction) => {
      await transaction.query(lookSettings);
      return digestRows.parse((await this.#timed(transaction, comparedQuery)).rows);
    });
    const seen = new Map(rows.map(({ name, digest }) => [name, digest]));
    const before = this.#seen ?? new Map<string, string>();
    this.#seen = seen;
    const changed = [...new Set([...seen.keys(), ...before.keys()])].filter(
      (name) => seen.get(name) !== before.get(name),
    );
    if (changed.length === 0) return;
    observe({ kind: "look.found", database: database.name, schemas: changed.length, moved: false });
    target.changed(database.name, changed);
  }

  async #timed(database: Queryable, text: string): Promise<{ rows: unknown[] }> {
    const startedMs = performance.now();
    const answer = await database.query(text);
    this.#tookMs = performance.now() - startedMs;
    return answer;
  }

  async #readRevisions(): Promise<void> {
    const { database, target } = this.#options;
    const { sum } = sumRow.parse((await database.query(sumQuery)).rows[0]);
    if (sum === this.#sum) return;
    const { rows } = await database.query("select schema_name, revision::text from rowhouse.schema_revision");
    target.revisions(
      database.name,
      new Map(revisionRows.parse(rows).map(({ schema_name, revision }) => [schema_name, revision])),
    );
    this.#sum = sum;
  }
}

const surroundingsQuery = `
  select count(*) = 2 and coalesce(bool_and(evtenabled <> 'D'), false) as triggers,
    current_setting('max_prepared_transactions') <> '0' as prepares, pg_is_in_recovery() as recovers
  from pg_catalog.pg_event_trigger where evtname in ('rowhouse_ddl_command_end', 'rowhouse_sql_drop')`;

/**
 * With JIT it takes ten times as long; and the connecting role's own path may contain schemas where others
 * can create operators.
 */
const lookSettings =
  "select set_config('jit', 'off', true), set_config('search_path', 'pg_catalog, pg_temp', true), set_config('statement_timeout', '30s', true)";

const comparedQuery = `select name, digest::text from (${digestQuery}) seen`;

const sumQuery = `
  select count(*) || ' ' || coalesce(bit_xor(hashtextextended(schema_name, revision)), 0) as sum
  from rowhouse.schema_revision`;
