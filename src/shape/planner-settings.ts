/** Planner settings for probes, so that their duration does not depend on sampled statistics. */

/**
 * PostgreSQL's planner relies on a sample that ANALYZE took: if it contains no domain constraint (two among
 * 42,000), it says that `contypid` is the same in all rows. With two of 12 samples of one database a probe
 * read all of pg_constraint for each type, and took 145 ms of CPU instead of 9 (PostgreSQL 18.4). Everything
 * that a probe looks up has an index.
 */
export const probePlanning: Readonly<Record<string, string>> = {
  enable_seqscan: "off",
};

const names = Object.keys(probePlanning);

/** SQL, a scalar subquery that is never null: restores normal planning for the statements that follow it. */
export const withUsualPlanning = `(
  select pg_catalog.count(pg_catalog.set_config(name, reset_val, true)) from pg_catalog.pg_settings
  where name in (${names.map((name) => `'${name}'`).join(", ")})
)`;
