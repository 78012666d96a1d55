/** Decisions in memory, and the newest known revision of each schema; a decision on an older one is dropped. */
import { LRUCache } from "lru-cache";
import type { TenantId } from "../shared/kernel/ids.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";
import type { Decision } from "./decision.ts";
import type { Interest } from "./revision-notices.ts";

/**
 * Maximum number of schemas whose revision is remembered; forgetting one costs a late retry, never a wrong
 * answer.
 */
const maxHeard = 50_000;
/** Maximum number of schemas remembered as having no revision; this matters only while a probe runs. */
const maxMissed = 1_000;

const place = (database: string, schema: string): string => `${database}\n${schema}`;

export class DecisionCache {
  readonly #decisions: LRUCache<TenantId, Decision>;
  /**
   * Tenants by the schemas that their decisions depend on, so that a notification costs its own tenants only.
   * Most schemas belong to one tenant, and a set of one would take 200 bytes (Node 24.21).
   */
  readonly #users = new Map<string, TenantId | Set<TenantId>>();
  readonly #heard = new LRUCache<string, bigint>(lazyLru(maxHeard));
  /** Schemas that turned out to have no revision, each with the sequence number of that miss. */
  readonly #missed = new LRUCache<string, number>(lazyLru(maxMissed));
  #misses = 0;

  constructor(most: number) {
    this.#decisions = new LRUCache({ ...lazyLru(most), dispose: (decision) => this.#unlist(decision) });
  }

  get size(): number {
    return this.#decisions.size;
  }

  get(tenant: TenantId): Decision | undefined {
    return this.#decisions.get(tenant);
  }

  peek(tenant: TenantId): Decision | undefined {
    return this.#decisions.peek(tenant);
  }

  keep(decision: Decision): void {
    const { id } = decision.tenant;
    this.#decisions.delete(id);
    this.#decisions.set(id, decision);
    for (const key of placesOf(decision)) {
      const users = this.#users.get(key);
      if (users === undefined) this.#users.set(key, id);
      else if (typeof users !== "string") users.add(id);
      else if (users !== id) this.#users.set(key, new Set([users, id]));
    }
  }

  forget(tenant: TenantId): void {
    this.#decisions.delete(tenant);
  }

  forgetWhere(chosen: (decision: Decision) => boolean): void {
    for (const [id, decision] of [...this.#decisions.entries()]) if (chosen(decision)) this.forget(id);
  }

  clear(): void {
    this.#decisions.clear();
  }

  /** Number of misses so far; read it before a probe and pass it to `isOutdated`. */
  get misses(): number {
    return this.#misses;
  }

  /**
   * `known` if a revision is newer than recorded and than a cached decision; if only newer than recorded,
   * `asked` while a probe is in flight there; else `none`.
   */
  interest(database: string, schema: string, revision: bigint, asked: boolean): Interest {
    const key = place(database, schema);
    if ((this.#heard.get(key) ?? 0n) >= revision) return "none";
    if (this.#olderThan(key, schema, revision).length > 0) return "known";
    return asked ? "asked" : "none";
  }

  /** Records a revision, which only ever moves forward, and forgets the tenants decided on an older one. */
  recordRevision(database: string, schema: string, revision: bigint): readonly TenantId[] {
    const key = place(database, schema);
    if ((this.#heard.get(key) ?? 0n) >= revision) return [];
    this.#heard.set(key, revision);
    const older = this.#olderThan(key, schema, revision);
    for (const id of older) this.forget(id);
    return older;
  }

  /** Forgets the tenants that were decided when the schema had a revision. */
  recordMissing(database: string, schema: string): readonly TenantId[] {
    const key = place(database, schema);
    this.#misses += 1;
    this.#missed.set(key, this.#misses);
    const gone = this.#usersOf(key, (decision) => revisionOf(decision, schema) > 0n);
    for (const id of gone) this.forget(id);
    return gone;
  }

  /** Forgets every tenant that depends on the schema. */
  forgetUsersOf(database: string, schema: string): readonly TenantId[] {
    const users = this.#usersOf(place(database, schema), () => true);
    for (const id of users) this.forget(id);
    return users;
  }

  /** The schemas of that database that some decision depends on. */
  schemas(database: string): readonly string[] {
    const prefix = place(database, "");
    return [...this.#users.keys()].flatMap((key) =>
      key.startsWith(prefix) ? [key.slice(prefix.length)] : [],
    );
  }

  #olderThan(key: string, schema: string, revision: bigint): readonly TenantId[] {
    return this.#usersOf(key, (decision) => revisionOf(decision, schema) < revision);
  }

  #usersOf(key: string, chosen: (decision: Decision) => boolean): readonly TenantId[] {
    const users = this.#users.get(key) ?? [];
    return [...(typeof users === "string" ? [users] : users)].filter((id) => {
      const decision = this.#decisions.peek(id);
      return decision !== undefined && chosen(decision);
    });
  }

  /**
   * Whether a newer revision of one of its schemas is known, or one that had a revision was found without any
   * since `misses`.
   */
  isOutdated(decision: Decision, misses = this.#misses): boolean {
    const { database } = decision.tenant;
    return Object.keys(decision.revisions).some((schema) => {
      const key = place(database, schema);
      const revision = revisionOf(decision, schema);
      return (
        revision < (this.#heard.get(key) ?? 0n) || (revision > 0n && (this.#missed.get(key) ?? 0) > misses)
      );
    });
  }

  /** For a database that went back in time, for example by a restore: its current revisions count from now on. */
  resetRevisions(decision: Decision): void {
    for (const key of placesOf(decision)) this.#heard.delete(key);
  }

  #unlist(decision: Decision): void {
    for (const key of placesOf(decision)) {
      const users = this.#users.get(key);
      if (users === undefined) continue;
      if (typeof users === "string") {
        if (users === decision.tenant.id) this.#users.delete(key);
        continue;
      }
      users.delete(decision.tenant.id);
      if (users.size === 0) this.#users.delete(key);
    }
  }
}

function placesOf({ tenant, revisions }: Decision): readonly string[] {
  return Object.keys(revisions).map((schema) => place(tenant.database, schema));
}

function revisionOf(decision: Decision, schema: string): bigint {
  return BigInt(decision.revisions[schema] ?? "0");
}
