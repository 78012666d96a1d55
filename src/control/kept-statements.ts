/** What becomes of prepared statements when a connection changes tenants, and what it costs. */

export interface KeepingFacts {
  readonly eventTriggers: boolean;
  /** Whether everyone has lost the right to list them. */
  readonly hidesStatements: boolean;
  /** Whether the connecting role may list them all the same, as superusers may. */
  readonly listsStatements: boolean;
}

/** Whether they are kept, between tenants whose functions can prepare none. */
export function keepsStatements({ eventTriggers, listsStatements }: KeepingFacts): boolean {
  return eventTriggers && !listsStatements;
}

/**
 * Requests per second of the adaptor alone over those where statements are kept, if each request is another tenant's than the one
 * before it on its connection (`npm run bench -- hygiene`). With fewer tenants than connections there is no difference.
 */
const leaves = "about 0.7 times the requests per second if every request on a connection is another tenant's";

/** Whether they are kept; otherwise why not, at what cost, and what would change it. */
export function keepingText(facts: KeepingFacts): string {
  if (keepsStatements(facts)) return "prepared statements are kept when a connection changes tenants";
  const dropped = `prepared statements are dropped when a connection changes tenants, ${leaves}`;
  if (!facts.eventTriggers) {
    return `without event triggers, ${dropped}: run "rowhouse install" as a superuser`;
  }
  const cure = facts.hidesStatements
    ? "connect as a role that is no superuser and was not granted pg_prepared_statement()"
    : 'run "rowhouse install" as a superuser';
  return `names of prepared statements can be listed, so ${dropped}: ${cure}`;
}
