/** The decisions of all tenants: made when asked for, kept until something newer is heard of. */
import { isDeepStrictEqual } from "node:util";
import { LRUCache } from "lru-cache";
import { parseReport } from "../control/revisions.ts";
import type { Observe } from "../observability/observation.ts";
import type { RoleSafety } from "../role-safety/role-safety.ts";
import type { InstanceKey, ShapeHash, TenantId } from "../shared/kernel/ids.ts";
import { SingleFlight } from "../shared/kernel/single-flight.ts";
import type { Tenant } from "../tenants/tenant.ts";
import { type Decision, type DecisionRules, decisionOf } from "./decision.ts";
import { DecisionCache } from "./decision-cache.ts";
import { Interned } from "./interned.ts";
import { type Probe, type ProbedDatabase, probe } from "./probe.ts";
import type { Interest } from "./revision-notices.ts";

export interface DecisionsOptions extends DecisionRules {
  readonly database: (name: string) => ProbedDatabase;
  readonly observe: Observe;
  /** Null: nobody looks at roles. */
  readonly safety?: RoleSafety | null;
  /** Most decisions kept; the least recently used is asked for again. */
  readonly most?: number;
}

/** A probe that was out of date when it came is asked for again, so many times. */
const maxProbes = 4;

interface Failed {
  readonly tenant: Tenant;
  readonly thrown: unknown;
}

export class Decisions {
  readonly #options: DecisionsOptions;
  readonly #known: DecisionCache;
  readonly #asking = new SingleFlight<TenantId, Decision | Failed>();
  /** The records by which it is being asked. */
  readonly #asked = new Set<Tenant>();
  /** Tenants being asked for whose answer is out of date before it has come. */
  readonly #overtaken = new Set<TenantId>();
  /** Blueprints that a build found unsafe to share, and why. */
  readonly #unshareable = new LRUCache<InstanceKey, string>({ max: 1_000 });
  readonly #keys = new Interned<InstanceKey>(1_000);
  readonly #shapes = new Interned<ShapeHash>(1_000);

  constructor(options: DecisionsOptions) {
    this.#options = options;
    this.#known = new DecisionCache(options.most ?? 10_000);
  }

  get size(): number {
    return this.#known.size;
  }

  /** The decision in memory, however old; for showing. */
  peek(tenant: TenantId): Decision | undefined {
    return this.#known.peek(tenant);
  }

  /** The decision for `tenant` where there is one that needs no asking. */
  known(tenant: Tenant): Decision | undefined {
    const known = this.#known.get(tenant.id);
    // The source gives the same object for as long as the record stays the same.
    return known?.tenant === tenant ? known : undefined;
  }

  /**
   * The decision for `tenant`, asking the database where none is known: once, however many wait. A failure is no
   * decision: it is thrown and asked again. Throws `SCHEMA_NOT_FOUND`, `DATABASE_UNREACHABLE`, `LOCK_TIMEOUT` and `ROLE_UNSAFE`.
   */
  async decide(tenant: Tenant): Promise<Decision> {
    const known = this.known(tenant);
    if (known !== undefined) return known;
    this.#options.safety?.admit(tenant);
    for (;;) {
      const answer = await this.#asking.run(tenant.id, () => this.#answer(tenant));
      // Another record of the same tenant was being decided, and failed or not: this one has its own turn.
      if (answer.tenant !== tenant) continue;
      if ("thrown" in answer) throw answer.thrown;
      return answer;
    }
  }

  async #answer(tenant: Tenant): Promise<Decision | Failed> {
    this.#asked.add(tenant);
    try {
      return await this.#ask(tenant);
    } catch (thrown) {
      return { tenant, thrown };
    } finally {
      this.#asked.delete(tenant);
    }
  }

  /**
   * Whether the tenant, asked afresh, is still served by the instance that `decision` names, and was all the while: what was
   * changed and changed back has the same shape again, and a build in between may have seen another.
   */
  async verify(decision: Decision): Promise<boolean> {
    const probed = await this.#probe(decision.tenant, false);
    const current =
      this.#decisionOf(decision.tenant, probed).key === decision.key &&
      isDeepStrictEqual(probed.shape.revisions, decision.revisions);
    if (!current) this.forget(decision.tenant.id);
    return current;
  }

  /** Serves the tenants of a pooled key by instances of their own from now on. */
  refuse(key: InstanceKey, reason: string): void {
    this.#unshareable.set(key, reason);
    this.#known.forgetWhere((decision) => decision.key === key);
  }

  forget(tenant: TenantId): void {
    this.#known.forget(tenant);
    if (this.#asking.has(tenant)) this.#overtaken.add(tenant);
  }

  /**
   * Forgets `decision`, which turned out to be of an older schema. Where it was forgotten before, it has been asked for since.
   * `reported`: what its guard found instead, as JSON.
   */
  disprove(decision: Decision, reported: string | null = null): void {
    const { id, database } = decision.tenant;
    for (const [schema, revision] of reported === null ? [] : parseReport(reported)) {
      if (Object.hasOwn(decision.revisions, schema)) this.recordRevision(database, schema, revision);
    }
    if (this.#known.peek(id) === decision) this.forget(id);
  }

  /** Whether it would outdate a decision that a schema has reached a revision, or may outdate one that is still to come. */
  interest(database: string, schema: string, revision: bigint): Interest {
    // Which schemas a tenant's shape is made of, the answer tells first.
    const asked = [...this.#asked].some((tenant) => tenant.database === database);
    return this.#known.interest(database, schema, revision, asked);
  }

  /**
   * Takes note that a schema has no revision, and forgets the tenants decided when it had one; returns them. An answer that is
   * still to come is held against it.
   */
  recordMissing(database: string, schema: string): readonly TenantId[] {
    return this.#known.recordMissing(database, schema);
  }

  /**
   * Takes note that a schema has reached a revision, and forgets the tenants decided on an older one; returns them.
   * Revisions only move forward: one that comes late, or a second time, changes nothing.
   */
  recordRevision(database: string, schema: string, revision: bigint): readonly TenantId[] {
    return this.#known.recordRevision(database, schema, revision);
  }

  /** Forgets the tenants that a schema which may have changed has a say in, without knowing of another revision; returns them. */
  forgetUsersOf(database: string, schema: string): readonly TenantId[] {
    // Of those that are being asked nobody knows yet which schemas they are of.
    for (const tenant of this.#asked) if (tenant.database === database) this.#overtaken.add(tenant.id);
    return this.#known.forgetUsersOf(database, schema);
  }

  /** Takes note of all the revisions that there are in a database, and forgets the tenants decided on others; returns them. */
  compare(database: string, revisions: ReadonlyMap<string, bigint>): readonly TenantId[] {
    const older = [...revisions].flatMap(([schema, revision]) =>
      this.interest(database, schema, revision) === "none"
        ? []
        : this.recordRevision(database, schema, revision),
    );
    const gone = this.#known.schemas(database).filter((schema) => !revisions.has(schema));
    return [...older, ...gone.flatMap((schema) => this.recordMissing(database, schema))];
  }

  forgetAll(): void {
    this.#known.clear();
    this.#unshareable.clear();
    this.#options.safety?.forget();
    for (const id of this.#asking.keys()) this.#overtaken.add(id);
  }

  async #ask(tenant: Tenant): Promise<Decision> {
    const startedMs = performance.now();
    for (let attempt = 1; ; attempt += 1) {
      this.#overtaken.delete(tenant.id);
      const { misses } = this.#known;
      const { safety = null } = this.#options;
      const probed = await this.#probe(tenant, safety !== null);
      const unsafe = probed.findings === null ? [] : await safety?.judge(tenant, probed.findings);
      const decision = this.#decisionOf(tenant, probed, unsafe);
      const outdated = this.#known.isOutdated(decision, misses);
      if ((outdated || this.#overtaken.has(tenant.id)) && attempt < maxProbes) continue;
      // The database itself says otherwise than what was once heard, again and again.
      if (outdated) this.#known.resetRevisions(decision);
      this.#known.keep(decision);
      this.#tell(decision, performance.now() - startedMs);
      return decision;
    }
  }

  #tell({ tenant, key, kind, reason }: Decision, probeMs: number): void {
    this.#options.observe({
      kind: "tenant.decided",
      tenant: tenant.id,
      key,
      pooled: kind === "pooled",
      probeMs,
      ...(reason === null ? {} : { reason }),
    });
  }

  /** `safety`: whether what the tenant's roles may do is asked for. */
  #probe(tenant: Tenant, safety: boolean): Promise<Probe> {
    this.#options.observe({ kind: "schema.read", tenant: tenant.id, what: "shape" });
    return probe(this.#options.database(tenant.database), tenant, safety);
  }

  #decisionOf(tenant: Tenant, probe: Probe, unsafe: readonly string[] = []): Decision {
    const shape = { ...probe.shape, shape: this.#shapes.of(probe.shape.shape) };
    const unshareable = (key: InstanceKey): string | undefined => this.#unshareable.get(key);
    const decided = decisionOf(tenant, { ...probe, shape }, this.#options, { unshareable, unsafe });
    if (decided.kind === "dedicated") return decided;
    const key = this.#keys.of(decided.key);
    return { ...decided, key, spec: { ...decided.spec, key } };
  }
}
