/** How the probe's statements are planned, so that no sample of the catalogue's statistics decides how long they take. */

/**
 * Values of PostgreSQL's settings for its planner. By itself it goes by a sample that ANALYZE took: one with no domain's
 * constraint, of two among 42,000, says that `contypid` is the same in all rows. With two of 12 samples of one database a probe
 * read all of pg_constraint for each type, and took 145 ms of CPU instead of 9 (PostgreSQL 18.4). There is an index for whatever a probe looks up.
 */
export const probePlanning: Readonly<Record<string, string>> = {
  enable_seqscan: "off",
};

const names = Object.keys(probePlanning);

/** SQL, a scalar subquery and never null: from here on statements are planned as they are without `probePlanning`. */
export const withUsualPlanning = `(
  select pg_catalog.count(pg_catalog.set_config(name, reset_val, true)) from pg_catalog.pg_settings
  where name in (${names.map((name) => `'${name}'`).join(", ")})
)`;
