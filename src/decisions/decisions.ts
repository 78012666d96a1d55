/** The decisions of all tenants: made on demand, kept until a newer revision is reported. */
import { isDeepStrictEqual } from "node:util";
import { LRUCache } from "lru-cache";
import { parseReport } from "../control/revisions.ts";
import type { Observe } from "../observability/observation.ts";
import type { Finding } from "../role-safety/finding.ts";
import type { RoleSafety } from "../role-safety/role-safety.ts";
import type { HostError } from "../shared/kernel/errors.ts";
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import type { InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import { SingleFlight } from "../shared/kernel/single-flight.ts";
import type { BlueprintSpec } from "../shared/model/blueprint-spec.ts";
import type { Tenant } from "../tenants/tenant.ts";
import { type Decision, type DecisionRules, decisionOf } from "./decision.ts";
import { DecisionCache } from "./decision-cache.ts";
import { type Probe, type ProbedDatabase, probe } from "./probe.ts";
import type { Interest } from "./revision-notices.ts";
import { initialBasis, reportedBasis, type SharingBasis, variantOf } from "./sharing-basis.ts";

export interface DecisionsOptions extends DecisionRules {
  readonly database: (name: string) => ProbedDatabase;
  readonly observe: Observe;
  /** Null: roles are not checked. */
  readonly safety?: RoleSafety | null;
  /** Whether no preset is configured: all of the stock preset's plugins are known, before any build. */
  readonly stockPreset?: boolean;
  /** Maximum number of decisions kept; the least recently used is dropped and made again on demand. */
  readonly max?: number;
}

/** Maximum number of probes for one decision; a probe that is already out of date when it returns is repeated. */
const maxProbes = 4;

interface Failed {
  readonly tenant: Tenant;
  readonly thrown: unknown;
}

export class Decisions {
  readonly #options: DecisionsOptions;
  readonly #known: DecisionCache;
  readonly #asking = new SingleFlight<TenantId, Decision | Failed>();
  /** The tenant records that are being probed. */
  readonly #asked = new Set<Tenant>();
  /** Tenants whose probe in flight is already known to be out of date. */
  readonly #overtaken = new Set<TenantId>();
  /** Pooled keys that a build found unsafe to share, and why. */
  readonly #unshareable = new LRUCache<InstanceKey, string>({ max: 1_000 });
  /** By variant of the preset, as far as a build has reported its plugins. */
  readonly #bases = new LRUCache<string, SharingBasis>({ max: 1_000 });

  constructor(options: DecisionsOptions) {
    this.#options = options;
    this.#known = new DecisionCache(options.max ?? 10_000);
  }

  get size(): number {
    return this.#known.size;
  }

  /** The decision in memory, however old, for display only. */
  peek(tenant: TenantId): Decision | undefined {
    return this.#known.peek(tenant);
  }

  /**
   * The decision for `tenant`. If none is cached the database is asked, once for all concurrent callers.
   * Failures are not cached: it rejects with `SCHEMA_NOT_FOUND`, `DATABASE_UNREACHABLE`, `LOCK_TIMEOUT` and
   * `ROLE_UNSAFE`.
   */
  decide(tenant: Tenant): MaybePromise<Decision> {
    const known = this.#known.get(tenant.id);
    // The tenant source returns the same object as long as the record is unchanged.
    return known?.tenant === tenant ? known : this.#decide(tenant);
  }

  async #decide(tenant: Tenant): Promise<Decision> {
    this.#options.safety?.admit(tenant);
    for (;;) {
      const answer = await this.#asking.run(tenant.id, () => this.#answer(tenant));
      // The flight was for another record of the same tenant, whether it failed or not: this record takes its
      // own turn.
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
   * Whether a fresh probe leads to the same key and the same revisions as `decision`. The key alone is not
   * enough: a change that was reverted has the same shape again, and a build in between may have seen
   * another.
   */
  async verify(decision: Decision): Promise<boolean> {
    const probed = await this.#probe(decision.tenant, false);
    const current =
      this.#decisionOf(decision.tenant, probed).key === decision.key &&
      isDeepStrictEqual(probed.shape.revisions, decision.revisions);
    if (!current) this.forget(decision.tenant.id);
    return current;
  }

  /**
   * Serves the tenants of a pooled key by dedicated instances from now on or, for `BUILD_READS_MORE`, all tenants with the same variant of
   * the preset by instances of their full shape.
   */
  refuse(spec: BlueprintSpec, { code, message }: Pick<HostError, "code" | "message">): void {
    const { key } = spec;
    if (code === "BUILD_READS_MORE") {
      this.#rebase(spec, { shape: "full", because: message });
      return;
    }
    if (this.#unshareable.has(key)) return;
    this.#unshareable.set(key, message);
    this.#known.forgetWhere((decision) => decision.key === key);
  }

  /**
   * Records the plugins that a build of the full shape reported as not known. If there are none, tenants with this variant of the preset
   * share instances by their core shapes from now on.
   */
  recordPlugins(spec: BlueprintSpec, unknown: readonly string[]): void {
    // A preset that is not the same each time is not trusted again.
    if (!this.#options.pooling || this.#bases.has(variantOf(spec))) return;
    this.#rebase(spec, reportedBasis(unknown));
  }

  /** By which shape the tenant of `decision` shares an instance; null if it does not. */
  basisOf({ kind, spec }: Pick<Decision, "kind" | "spec">): SharingBasis | null {
    return kind === "pooled" ? this.#basisOf(spec) : null;
  }

  #basisOf(variant: Parameters<typeof variantOf>[0]): SharingBasis {
    return this.#bases.get(variantOf(variant)) ?? initialBasis(this.#options.stockPreset ?? false);
  }

  /** Decides anew for pooled tenants with the variant of `spec`, since their keys or the reasons for them change. */
  #rebase(spec: BlueprintSpec, basis: SharingBasis): void {
    const variant = variantOf(spec);
    const before = this.#basisOf(spec);
    this.#bases.set(variant, basis);
    if (before.shape === basis.shape) return;
    this.#known.forgetWhere(({ kind, spec: known }) => kind === "pooled" && variantOf(known) === variant);
    for (const id of this.#asking.keys()) this.#overtaken.add(id);
  }

  forget(tenant: TenantId): void {
    this.#known.forget(tenant);
    if (this.#asking.has(tenant)) this.#overtaken.add(tenant);
  }

  /**
   * Forgets `decision`, which turned out to be based on an older schema; does nothing if it was replaced
   * since. `reported`: the revisions that its guard found instead, as JSON.
   */
  invalidate(decision: Decision, reported: string | null = null): void {
    const { id, database } = decision.tenant;
    for (const [schema, revision] of reported === null ? [] : parseReport(reported)) {
      if (Object.hasOwn(decision.revisions, schema)) this.recordRevision(database, schema, revision);
    }
    if (this.#known.peek(id) === decision) this.forget(id);
  }

  /** Whether a schema's new revision would outdate a cached decision, or may outdate one that is being made. */
  interest(database: string, schema: string, revision: bigint): Interest {
    // Which schemas a tenant's shape depends on is known only when the probe returns.
    const asked = [...this.#asked].some((tenant) => tenant.database === database);
    return this.#known.interest(database, schema, revision, asked);
  }

  /**
   * Records that a schema has no revision, and forgets the tenants that were decided when it had one; returns
   * them. A probe in flight is checked against it.
   */
  recordMissing(database: string, schema: string): readonly TenantId[] {
    return this.#known.recordMissing(database, schema);
  }

  /**
   * Records that a schema has reached a revision, and forgets the tenants decided on an older one; returns
   * them. Revisions only move forward: late or repeated reports change nothing.
   */
  recordRevision(database: string, schema: string, revision: bigint): readonly TenantId[] {
    return this.#known.recordRevision(database, schema, revision);
  }

  /**
   * Forgets the tenants that depend on a schema which may have changed, when the new revision is unknown;
   * returns them.
   */
  forgetUsersOf(database: string, schema: string): readonly TenantId[] {
    // It is not known yet which schemas the tenants being probed depend on.
    for (const tenant of this.#asked) if (tenant.database === database) this.#overtaken.add(tenant.id);
    return this.#known.forgetUsersOf(database, schema);
  }

  /** Records all revisions of a database, and forgets the tenants decided on others; returns them. */
  compare(database: string, revisions: ReadonlyMap<string, bigint>): readonly TenantId[] {
    const older = [...revisions].flatMap(([schema, revision]) =>
      this.interest(database, schema, revision) === "none"
        ? []
        : this.recordRevision(database, schema, revision),
    );
    const gone = this.#known.schemas(database).filter((schema) => !revisions.has(schema));
    return [...older, ...gone.flatMap((schema) => this.recordMissing(database, schema))];
  }

  /** Forgets every decision, but not which keys were found unsafe to share: a key says all that such a finding depends on. */
  forgetAll(): void {
    this.#known.clear();
    this.#options.safety?.forget();
    for (const id of this.#asking.keys()) this.#overtaken.add(id);
  }

  /** Lets keys that were found unsafe to share be tried again. */
  forgetRefusals(): void {
    this.#unshareable.clear();
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
      // The database repeatedly contradicts the recorded revisions: it is right.
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

  /** `safety`: whether to check what the tenant's roles may do. */
  #probe(tenant: Tenant, safety: boolean): Promise<Probe> {
    this.#options.observe({ kind: "schema.read", tenant: tenant.id, what: "shape" });
    return probe(this.#options.database(tenant.database), tenant, safety);
  }

  #decisionOf(tenant: Tenant, probe: Probe, unsafe: readonly Finding[] = []): Decision {
    const unshareable = (key: InstanceKey): string | undefined => this.#unshareable.get(key);
    return decisionOf(tenant, probe, this.#options, {
      unshareable,
      basis: this.#basisOf(tenant),
      unsafe,
    });
  }
}
