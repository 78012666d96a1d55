/** Acts on findings about roles: logs them, or refuses to serve the tenant. */
import { LRUCache } from "lru-cache";
import type { Observe } from "../observability/observation.ts";
import { HostError } from "../shared/kernel/errors.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";
import { listedRoles, type Tenant } from "../tenants/tenant.ts";
import { type ConnectingOptions, connectingFindings } from "./connecting-role.ts";
import type { Reaching } from "./reach.ts";
import type { SafetyFindings } from "./tenant-roles.ts";

export interface RoleSafetyOptions {
  readonly mode: "refuse" | "warn";
  /** Objects that are allowed to reach beyond their tenant, by schema (logical or PostgreSQL's) and name. */
  readonly accepted?: readonly string[];
  /** Every tenant that the source can list. */
  readonly tenants: () => Promise<readonly Tenant[]>;
  /** Must connect as the role that requests connect as. */
  readonly database: (name: string) => Pick<ConnectingOptions, "together">;
  readonly observe: Observe;
}

/** How long the list of all tenants is reused; it is needed only if a role reaches further than it should. */
const listMaxAgeMs = 60_000;
/**
 * How long a refusal, and findings about a connecting role, are reused: privileges can change without any
 * notification.
 */
const refusalMs = 5_000;

interface Asked<Value> {
  readonly atMs: number;
  readonly value: Promise<Value>;
}

type Owners = ReadonlyMap<string, ReadonlySet<TenantId>>;

/** Facts about all tenants. */
interface Listed {
  readonly owners: Owners;
  readonly roles: readonly string[];
}

const place = (database: string, schema: string): string => `${database}\n${schema}`;

export class RoleSafety {
  readonly #options: RoleSafetyOptions;
  readonly #refused = new LRUCache<TenantId, { tenant: Tenant; error: HostError }>({
    ...lazyLru(10_000),
    ttl: refusalMs,
  });
  /** The findings last logged for a tenant or database, so that they are not repeated with every decision. */
  readonly #told = new LRUCache<string, string>(lazyLru(50_000));
  readonly #connecting = new Map<string, Asked<readonly string[]>>();
  readonly #list = new Map<"all", Asked<Listed>>();

  constructor(options: RoleSafetyOptions) {
    this.#options = options;
  }

  /**
   * Throws `ROLE_UNSAFE` for a tenant that was refused a moment ago, so that its requests do not each query
   * PostgreSQL.
   */
  admit(tenant: Tenant): void {
    const refused = this.#refused.get(tenant.id);
    if (refused?.tenant === tenant) throw refused.error;
  }

  /** Makes every tenant be checked again. */
  forget(): void {
    this.#refused.clear();
    this.#connecting.clear();
    this.#list.clear();
  }

  /** Returns all findings, logging them once; throws `ROLE_UNSAFE` if there are any and `mode` is `refuse`. */
  async judge(tenant: Tenant, findings: SafetyFindings): Promise<readonly string[]> {
    const { mode, observe, accepted = [] } = this.#options;
    const { database, sharedSchemas } = tenant;
    const refused = mode === "refuse";
    const connecting = await this.#connectingOf(database);
    const reaching = reachingFindings(tenant, findings.reaching, accepted);
    const shared = [...brief(findings.shared), ...brief(reaching.shared)];
    const own = [
      ...brief(findings.unsafe),
      ...brief(reaching.own),
      ...(await this.#foreign(tenant, findings.usable)),
    ];
    // Findings that affect all tenants of a database are reported once for the database, not for each tenant.
    const common = [
      ...this.#news(`database ${database}`, connecting),
      ...this.#news(`database ${database} ${JSON.stringify(sharedSchemas)}`, shared),
    ];
    if (common.length > 0) observe({ kind: "database.unsafe", database, findings: common, refused });
    const news = this.#news(`tenant ${tenant.id}`, own);
    if (news.length > 0) observe({ kind: "tenant.unsafe", tenant: tenant.id, findings: news, refused });
    const all = [...connecting, ...shared, ...own];
    if (all.length === 0 || !refused) return all;
    const error = new HostError("ROLE_UNSAFE", `tenant ${tenant.id}: ${all.join("; ")}`);
    this.#refused.set(tenant.id, { tenant, error });
    throw error;
  }

  #news(about: string, findings: readonly string[]): readonly string[] {
    const text = findings.join("\n");
    const before = this.#told.get(about) ?? "";
    this.#told.set(about, text);
    return text === before ? [] : findings;
  }

  /** Findings about schemas that the roles may use and that belong to another tenant. */
  async #foreign(tenant: Tenant, usable: readonly string[]): Promise<readonly string[]> {
    if (usable.length === 0) return [];
    const { owners } = await this.#listed(listMaxAgeMs);
    return brief(foreignFindings(tenant, usable, owners));
  }

  /** In `warn` mode a failing source must not fail a tenant that would be served anyway: an empty list is used. */
  async #listed(maxAgeMs: number): Promise<Listed> {
    const { mode, tenants } = this.#options;
    try {
      return await recent(this.#list, "all", maxAgeMs, async () => listedOf(await tenants()));
    } catch (error) {
      if (mode === "refuse") throw error;
      return listedOf([]);
    }
  }

  #connectingOf(name: string): Promise<readonly string[]> {
    const { mode, database } = this.#options;
    // Until the list includes a new tenant, its role counts against the connecting role, and so against all
    // tenants: in `refuse` mode that must not last.
    const maxAgeMs = mode === "refuse" ? refusalMs : listMaxAgeMs;
    return recent(this.#connecting, name, refusalMs, async () => {
      const { together } = database(name);
      const roles = async (): Promise<readonly string[]> => (await this.#listed(maxAgeMs)).roles;
      return brief(await connectingFindings({ together, roles }));
    });
  }
}

function listedOf(tenants: readonly Tenant[]): Listed {
  const roles = new Set(tenants.flatMap((tenant) => listedRoles(tenant.roles)));
  return { owners: ownersOf(tenants), roles: [...roles] };
}

/** Returns the cached answer if it is no older than `maxAgeMs`, else asks and caches. */
function recent<Key, Value>(
  known: Map<Key, Asked<Value>>,
  key: Key,
  maxAgeMs: number,
  ask: () => Promise<Value>,
): Promise<Value> {
  const nowMs = performance.now();
  const last = known.get(key);
  if (last !== undefined && nowMs - last.atMs <= maxAgeMs) return last.value;
  const value = ask();
  const asked = { atMs: nowMs, value };
  known.set(key, asked);
  // Failures are not cached: those who wait see the error, and the next caller asks again.
  value.catch(() => {
    if (known.get(key) === asked) known.delete(key);
  });
  return value;
}

const maxNamed = 5;

/**
 * Every decision keeps its findings: among 2,000 tenants without roles of their own, each may use the schemas
 * of all others, which would be four million sentences.
 */
function brief(findings: readonly string[]): readonly string[] {
  if (findings.length <= maxNamed) return findings;
  return [...findings.slice(0, maxNamed), `and ${findings.length - maxNamed} more of this kind`];
}

/** One sentence for each schema that the roles of `tenant` may use and that belongs to another tenant. */
export function foreignFindings(tenant: Tenant, usable: readonly string[], owners: Owners): string[] {
  return usable.flatMap((schema) => {
    const other = [...(owners.get(place(tenant.database, schema)) ?? [])].find((id) => id !== tenant.id);
    return other === undefined ? [] : [`its roles may use the schema ${schema} of tenant ${other}`];
  });
}

/**
 * One sentence for each object that reaches beyond its tenant and was not accepted: those in its own schemas,
 * and those in shared ones.
 */
export function reachingFindings(
  { schemas }: Pick<Tenant, "schemas">,
  reaching: readonly Reaching[],
  accepted: readonly string[],
): { readonly own: readonly string[]; readonly shared: readonly string[] } {
  const told = reaching.filter(({ schema, name }) => {
    const logical = schemas.find(({ physical }) => physical === schema)?.logical ?? schema;
    return ![schema, logical].some((each) => accepted.includes(`${each}.${name}`));
  });
  const texts = (those: readonly Reaching[]): string[] =>
    those.map(
      ({ kind, schema, name, by }) => `${kind} ${schema}.${name} could reach beyond its tenant through ${by}`,
    );
  return {
    own: texts(told.filter(({ shared }) => !shared)),
    shared: texts(told.filter(({ shared }) => shared)),
  };
}

/** The owners of each schema, by database and schema. */
export function ownersOf(tenants: readonly Tenant[]): Owners {
  const owners = new Map<string, Set<TenantId>>();
  for (const { id, database, schemas } of tenants) {
    for (const { physical } of schemas) {
      const key = place(database, physical);
      const known = owners.get(key);
      if (known === undefined) owners.set(key, new Set([id]));
      else known.add(id);
    }
  }
  return owners;
}
