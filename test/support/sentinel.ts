/** Inspects every answer of a host under test: none may contain data of another tenant than its own. */
import { afterAll, expect } from "vitest";

/** The tenant or tenants whose marks an answer may contain; null for none. */
export type Whose = string | readonly string[] | null;

/** The patterns that mark a tenant's schemas, roles and rows, with its id as the first group. */
export const marks = {
  canaries: /canary_([a-z0-9]+)/gi,
  // The demo's names, and the text of every row: "Ada of Acme", "Globex anvil", grace@acme.example.
  demo: /(?<![a-z0-9])(acme|globex|initech|umbrella|hooli|stark|t\d{4})(?![a-z0-9])/gi,
} as const;

function marksIn(text: string, mark: RegExp): Set<string> {
  return new Set([...text.matchAll(mark)].map(([, id]) => (id ?? "").toLowerCase()));
}

/** The tenant that a request names, by path, header or host; null if it names none. */
export function tenantNamed(path: string, headers: Readonly<Record<string, string>>): string | null {
  const byPath = /^\/t\/([a-z0-9]+)(?:\/|$)/.exec(path)?.[1];
  const byHost = /^([a-z0-9]+)\.(?:example|localhost)\.?(?::\d+)?$/i.exec(headers["host"] ?? "")?.[1];
  return byPath ?? headers["x-tenant"] ?? byHost?.toLowerCase() ?? null;
}

/** One per host. */
export class Sentinel {
  /** Foreign data that tenants received; the host's end expects it to be empty. */
  readonly leaks: string[] = [];
  /** The number of inspected answers, and of those that contained a mark of their own tenant. */
  answers = 0;
  own = 0;
  readonly #mark: RegExp;

  constructor(mark: RegExp) {
    this.#mark = mark;
  }

  /** Inspects an answer that belongs to `whose`; throws if it contains a foreign mark. */
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
/** The number of this file's hosts that had tenants to ask for. */
let needed = 0;

/** Creates a sentinel for this test file. With `isNeeded`, the file fails if none of them has seen an answer with any mark. */
export function postSentinel(kind: keyof typeof marks, isNeeded: boolean): Sentinel {
  const sentinel = new Sentinel(marks[kind]);
  posted.add(sentinel);
  if (isNeeded) needed += 1;
  return sentinel;
}

afterAll(() => {
  const all = [...posted];
  expect(all.flatMap(({ leaks }) => leaks)).toEqual([]);
  // A sentinel that saw no marks proves nothing.
  if (needed > 0) expect(all.reduce((sum, { own }) => sum + own, 0)).toBeGreaterThan(0);
});
