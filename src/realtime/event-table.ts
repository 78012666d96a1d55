/** The statements with which a host reads `rowhouse.event`, and registers to have it written. */
import { z } from "zod";
import type { Database } from "../postgres/database.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { hasState } from "../shared/postgres/sqlstate.ts";
import type { TopicEvent } from "../shared/protocol/events.ts";

export type EventDatabase = Pick<Database, "name" | "query">;

/** How long a statement may take. The connection is given up then: its server may have vanished. */
const timeoutMs = 10_000;

/** A `pg_snapshot` as text: what was committed by then. */
export type Snapshot = string;

export interface Poll {
  readonly snapshot: Snapshot;
  /** Identifies the server's process. Another one, after a failover or a crash, may use numbers of transactions anew. */
  readonly server: string;
  /** Whether this server has not yet come to the snapshot of the poll before: it is another one, which lagged behind. */
  readonly behind: boolean;
  /** Whether everything has ended that was under way in the snapshot that was given to settle. */
  readonly settled: boolean;
  /** The schemas with new events, and how many. */
  readonly events: Readonly<Record<string, number>>;
}

const pollRow = z.object({
  snapshot: z.string(),
  server: z.string(),
  behind: z.boolean(),
  settled: z.boolean(),
  events: z.record(z.string(), z.int()),
});

/**
 * $1: the snapshot of the poll before, or null; $2: the schemas to look for; $3: the snapshot to settle, or null. An event is
 * new if its transaction had not ended in the one snapshot and has committed in the other, however long it ran and in whatever
 * order others ended. A sequence alone would lose those that commit late.
 */
const pollQuery = `
  with now as materialized (select pg_catalog.pg_current_snapshot() as s)
  select s::text as snapshot,
    concat_ws(' ', (select oid from pg_catalog.pg_database where datname = current_database()),
      pg_catalog.pg_postmaster_start_time()) as server,
    coalesce(pg_snapshot_xmax($1::pg_snapshot) > pg_snapshot_xmax(s), false) as behind,
    coalesce(pg_snapshot_xmin(s) >= pg_snapshot_xmax($3::pg_snapshot), true) as settled,
    (
      select coalesce(json_object_agg(schema_name, events), '{}') from (
        select e.schema_name, count(*)::int as events from rowhouse.event e
        where e.xid >= pg_snapshot_xmin($1::pg_snapshot) and not pg_visible_in_snapshot(e.xid, $1::pg_snapshot)
          and pg_visible_in_snapshot(e.xid, s) and e.schema_name = any ($2::text[])
        group by 1
      ) changed
    ) as events
  from now`;

export async function poll(
  database: EventDatabase,
  since: Snapshot | null,
  schemas: readonly string[],
  unsettled: Snapshot | null,
): Promise<Poll> {
  const { rows } = await database.query(pollQuery, [since, schemas, unsettled], { timeoutMs });
  return pollRow.parse(rows[0]);
}

/** What has been committed between two polls. */
export interface Span {
  readonly since: Snapshot;
  /** When the first poll began, by this process's clock. */
  readonly sinceMs: number;
  readonly until: Snapshot;
  /** Whether events of it may be missing. */
  readonly lost: boolean;
}

/** A topic in a schema, which is named as in PostgreSQL. */
export interface Topic {
  readonly schema: string;
  readonly topic: string;
}

const pageRow = z.object({
  seq: z.string(),
  schema_name: z.string(),
  topic: z.string(),
  payload: z.string(),
});

/** One page has 64 kB of each at most. */
const pageRows = 100;

const pageQuery = `
  select e.seq::text as seq, e.schema_name, e.topic, e.payload from rowhouse.event e
  where e.xid >= pg_snapshot_xmin($1::pg_snapshot) and not pg_visible_in_snapshot(e.xid, $1::pg_snapshot)
    and pg_visible_in_snapshot(e.xid, $2::pg_snapshot) and e.schema_name = any ($3::text[])
    and (e.topic = any ($4::text[]) or e.schema_name = any ($5::text[])) and e.seq > $6::bigint
  order by e.seq limit ${pageRows}`;

/** Other texts may not exist in the encoding of the database, and then a statement with them fails. */
const everywhere = /^[\x20-\x7e]*$/;

/**
 * The events of a span, page by page, in the order in which they were written; further ones may be among them. The first page
 * follows the event `after`.
 */
export async function readPage(
  database: EventDatabase,
  { since, until }: Span,
  topics: readonly Topic[],
  after: string,
): Promise<{ readonly events: readonly TopicEvent[]; readonly after: string | null }> {
  const schemas = [...new Set(topics.map(({ schema }) => schema))];
  const names = new Set(topics.map(({ topic }) => topic).filter((topic) => everywhere.test(topic)));
  const whole = new Set(topics.filter(({ topic }) => !everywhere.test(topic)).map(({ schema }) => schema));
  const { rows } = await database.query(pageQuery, [since, until, schemas, [...names], [...whole], after], {
    timeoutMs,
  });
  const page = rows.map((row) => pageRow.parse(row));
  return {
    events: page.map(({ schema_name, topic, payload }): TopicEvent => [schema_name, topic, payload]),
    after: page.length < pageRows ? null : (page.at(-1)?.seq ?? null),
  };
}

const registered = z.object({ uninterrupted: z.boolean() });

/** Has events written for the host until `leaseMs` from now; returns whether they were until now. */
export async function register(database: EventDatabase, host: string, leaseMs: number): Promise<boolean> {
  try {
    const { rows } = await database.query(
      "select rowhouse.register_realtime($1, $2::interval) as uninterrupted",
      [host, `${leaseMs} milliseconds`],
      { timeoutMs },
    );
    return registered.parse(rows[0]).uninterrupted;
  } catch (error) {
    if (!hasState(error, "read_only_sql_transaction")) throw error;
    const message = `database ${database.name}: subscriptions need a server that can be written to`;
    throw new HostError("DATABASE_READ_ONLY", message, { cause: error });
  }
}

export async function unregister(database: EventDatabase, host: string): Promise<void> {
  await database.query("select rowhouse.unregister_realtime($1)", [host], { timeoutMs });
}

const keeping = z.object({ ms: z.coerce.number() });

/** For how long some host needs events, in milliseconds. */
export async function longestKeptMs(database: EventDatabase): Promise<number> {
  const { rows } = await database.query(
    `select coalesce(1000 * extract(epoch from max(keeps)), 0)::text as ms
      from rowhouse.realtime_host where until > now()`,
    [],
    { timeoutMs },
  );
  return keeping.parse(rows[0]).ms;
}

const sweptRow = z.object({ swept: z.coerce.number() });

/** Deletes events that were there in `seen`; returns how many. There may be more. */
export async function sweep(database: EventDatabase, seen: Snapshot): Promise<number> {
  const { rows } = await database.query(
    "select rowhouse.sweep_events($1::pg_snapshot)::text as swept",
    [seen],
    { timeoutMs },
  );
  return sweptRow.parse(rows[0]).swept;
}
