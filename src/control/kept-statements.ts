/** What becomes of prepared statements when a connection changes tenants, and what it costs. */

/**
 * `freely`: nobody can list them. `proved`: they can be listed, and an assertion at each change proves that nobody has replaced any.
 * `never`: nothing would prove it, so all are dropped at each change.
 */
export type Keeping = "freely" | "proved" | "never";

export interface KeepingFacts {
  readonly eventTriggers: boolean;
  /** Whether everyone has lost the right to list them. */
  readonly hidesStatements: boolean;
  /** Whether the connecting role may list them all the same, as superusers may. */
  readonly listsStatements: boolean;
}

export function keepingOf({
  eventTriggers,
  listsStatements,
}: Omit<KeepingFacts, "hidesStatements">): Keeping {
  if (!eventTriggers) return "never";
  return listsStatements ? "proved" : "freely";
}

/**
 * Requests per second of the adaptor alone over those where statements are kept freely, if each request is another tenant's than
 * the one before it on its connection (`npm run bench -- hygiene`). With fewer tenants than connections there is no difference.
 */
const leaves = "about 0.7 times the requests per second if every request on a connection is another tenant's";

/** The keeping, its cost and what would end it, in a sentence. */
export function keepingText(facts: KeepingFacts): string {
  const keeping = keepingOf(facts);
  if (keeping === "freely") return "prepared statements are kept when a connection changes tenants";
  if (keeping === "never") {
    return `without event triggers, prepared statements are dropped when a connection changes tenants, ${leaves}: run "rowhouse install" as a role that may create event triggers`;
  }
  const cure = facts.hidesStatements
    ? "connect as a role that is no superuser and was not granted pg_prepared_statement()"
    : 'run "rowhouse install" as a superuser';
  return `names of prepared statements can be listed, so that what is kept has to be proved when a connection changes tenants, ${leaves}: ${cure}`;
}
