/** Looks at every answer that a host under test gives: none may hold what belongs to another tenant than its own. */
import { afterAll, expect } from "vitest";

/** The tenant, or tenants, whose marks an answer may hold; null for nobody. */
export type Whose = string | readonly string[] | null;

/** What marks a tenant's schemas, roles and rows, its id as the first group. */
export const marks = {
  canaries: /canary_([a-z0-9]+)/gi,
  // The demo's names, and every row's text: "Ada of Acme", "Globex anvil", grace@acme.example.
  demo: /(?<![a-z0-9])(acme|globex|initech|umbrella|hooli|stark|t\d{4})(?![a-z0-9])/gi,
} as const;

function marksIn(text: string, mark: RegExp): Set<string> {
  return new Set([...text.matchAll(mark)].map(([, id]) => (id ?? "").toLowerCase()));
}

/** Whom a request names, by path, header or host; null where it names nobody. */
export function tenantNamed(path: string, headers: Readonly<Record<string, string>>): string | null {
  const byPath = /^\/t\/([a-z0-9]+)(?:\/|$)/.exec(path)?.[1];
  const byHost = /^([a-z0-9]+)\.(?:example|localhost)\.?(?::\d+)?$/i.exec(headers["host"] ?? "")?.[1];
  return byPath ?? headers["x-tenant"] ?? byHost?.toLowerCase() ?? null;
}

/** One for each host. */
export class Sentinel {
  /** What tenants were given of others'; the host's end holds it to be empty. */
  readonly leaks: string[] = [];
  /** Answers looked at, and those that held a mark of their own tenant. */
  answers = 0;
  own = 0;
  readonly #mark: RegExp;

  constructor(mark: RegExp) {
    this.#mark = mark;
  }

  /** Looks at an answer that is `whose`; throws where it holds a foreign mark. */
  see(whose: Whose, text: string): void {
    const own = typeof whose === "string" ? [whose] : (whose ?? []);
    const seen = marksIn(text, this.#mark);
    const foreign = [...seen].filter((id) => !own.includes(id));
    this.answers += 1;
    if (seen.size > foreign.length) this.own += 1;
    if (foreign.length === 0) return;
    const leak = `${own.join() || "nobody"} saw what belongs to ${foreign.join()}: ${text.slice(0, 400)}`;
    this.leaks.push(leak);
    throw new Error(leak);
  }
}

const posted = new Set<Sentinel>();
/** Hosts of this file that had tenants to ask for. */
let needed = 0;

/** A sentinel of this test file's. With `isNeeded`, the file fails where none of them has seen an answer that held a mark at all. */
export function postSentinel(kind: keyof typeof marks, isNeeded: boolean): Sentinel {
  const sentinel = new Sentinel(marks[kind]);
  posted.add(sentinel);
  if (isNeeded) needed += 1;
  return sentinel;
}

afterAll(() => {
  const all = [...posted];
  expect(all.flatMap(({ leaks }) => leaks)).toEqual([]);
  // Whoever saw nothing has found nothing.
  if (needed > 0) expect(all.reduce((sum, { own }) => sum + own, 0)).toBeGreaterThan(0);
});
