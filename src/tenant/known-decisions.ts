/** Decisions in memory, and the newest revision heard of for each schema: what is older is not kept. */
import { LRUCache } from "lru-cache";
import { growingTo } from "../kernel/growth.ts";
import type { TenantId } from "../kernel/ids.ts";
import type { Decision } from "./decision.ts";

/** Most schemas of which a revision is remembered: forgetting one costs a late retry, never a wrong answer. */
const mostHeard = 50_000;

const place = (database: string, schema: string): string => `${database}\n${schema}`;

export class KnownDecisions {
  readonly #decisions: LRUCache<TenantId, Decision>;
  /**
   * Tenants by the schemas that they serve or share, so that a notification costs its tenants and not all of them. Most
   * schemas are one tenant's own: a set of one takes 200 bytes (Node 24.21).
   */
  readonly #users = new Map<string, TenantId | Set<TenantId>>();
  readonly #heard = new LRUCache<string, bigint>(growingTo(mostHeard));

  constructor(most: number) {
    this.#decisions = new LRUCache({ ...growingTo(most), dispose: (decision) => this.#unlist(decision) });
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

  /** Whether a revision is newer than what was heard, and than a decision; where one is `asked` for, than nothing else. */
  isNews(database: string, schema: string, revision: bigint, asked: boolean): boolean {
    const key = place(database, schema);
    if ((this.#heard.get(key) ?? 0n) >= revision) return false;
    return asked || this.#olderThan(key, schema, revision).length > 0;
  }

  /** Notes a revision, which only ever moves forward, and forgets the tenants that were decided on an older one. */
  hear(database: string, schema: string, revision: bigint): readonly TenantId[] {
    const key = place(database, schema);
    if ((this.#heard.get(key) ?? 0n) >= revision) return [];
    this.#heard.set(key, revision);
    const older = this.#olderThan(key, schema, revision);
    for (const id of older) this.forget(id);
    return older;
  }

  /** Forgets the tenants that were decided when the schema had a revision. */
  miss(database: string, schema: string): readonly TenantId[] {
    const gone = this.#usersOf(place(database, schema), (decision) => revisionOf(decision, schema) > 0n);
    for (const id of gone) this.forget(id);
    return gone;
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

  /** Whether a newer revision of one of its schemas has been heard of. */
  isOutdated(decision: Decision): boolean {
    const { database } = decision.tenant;
    return schemasOf(decision).some(
      (schema) => revisionOf(decision, schema) < (this.#heard.get(place(database, schema)) ?? 0n),
    );
  }

  /** For a database that went back in time, as a restored one does: what it says now counts from now on. */
  unhear(decision: Decision): void {
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

function schemasOf({ tenant }: Decision): readonly string[] {
  return [...tenant.schemas.map((schema) => schema.physical), ...tenant.sharedSchemas];
}

function placesOf(decision: Decision): readonly string[] {
  return schemasOf(decision).map((schema) => place(decision.tenant.database, schema));
}

function revisionOf(decision: Decision, schema: string): bigint {
  return BigInt(decision.revisions[schema] ?? "0");
}
