/** What is made of the findings about roles: told, or a reason not to serve the tenant. */
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
  /** Objects that may reach, by schema (logical or PostgreSQL's) and name. */
  readonly accepted?: readonly string[];
  /** Every tenant that there is, as far as anyone can tell. */
  readonly tenants: () => Promise<readonly Tenant[]>;
  /** As the role that requests connect as. */
  readonly database: (name: string) => Pick<ConnectingOptions, "together">;
  readonly observe: Observe;
}

/** How long the list of all tenants is used: it is asked for only where a role reaches further than it should. */
const listMaxAgeMs = 60_000;
/** How long a refusal stands, and what is known of a connecting role: rights of roles can change without any notice of it. */
const refusalMs = 5_000;

interface Asked<Value> {
  readonly atMs: number;
  readonly value: Promise<Value>;
}

type Owners = ReadonlyMap<string, ReadonlySet<TenantId>>;

/** Of all tenants. */
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
  /** What was told last of a tenant or a database, so that a log does not say it with every decision. */
  readonly #told = new LRUCache<string, string>(lazyLru(50_000));
  readonly #connecting = new Map<string, Asked<readonly string[]>>();
  readonly #list = new Map<"all", Asked<Listed>>();

  constructor(options: RoleSafetyOptions) {
    this.#options = options;
  }

  /** Throws `ROLE_UNSAFE` for a tenant that was refused a moment ago, so that its requests do not ask PostgreSQL each. */
  admit(tenant: Tenant): void {
    const refused = this.#refused.get(tenant.id);
    if (refused?.tenant === tenant) throw refused.error;
  }

  /** Lets every tenant be looked at again. */
  forget(): void {
    this.#refused.clear();
    this.#connecting.clear();
    this.#list.clear();
  }

  /** All that is wrong, told once; throws `ROLE_UNSAFE` where anything is and `mode` says so. */
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
    // What is wrong with all tenants of a database is told of it, and not of each of them.
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

  /** Of the schemas that the roles reach, those that are another tenant's. */
  async #foreign(tenant: Tenant, usable: readonly string[]): Promise<readonly string[]> {
    if (usable.length === 0) return [];
    const { owners } = await this.#listed(listMaxAgeMs);
    return brief(foreignFindings(tenant, usable, owners));
  }

  /** A source that fails is no reason to fail a tenant that would be served in any case: to warn, no list will do. */
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
    // What the role of a tenant that is too new for the list may become is held against all: not for long where they are refused.
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

/** What was asked for no longer ago than `maxAgeMs`, or is from now on. */
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
  // A failure is no answer: whoever waits for it hears of it, and the next one asks again.
  value.catch(() => {
    if (known.get(key) === asked) known.delete(key);
  });
  return value;
}

const maxNamed = 5;

/**
 * Each decision keeps what was found: of tenants without roles of their own each may use the schemas of all others, and of
 * 2,000 of them that would be four million sentences.
 */
function brief(findings: readonly string[]): readonly string[] {
  if (findings.length <= maxNamed) return findings;
  return [...findings.slice(0, maxNamed), `and ${findings.length - maxNamed} more of this kind`];
}

/** Of the schemas that the roles of `tenant` may use, those that are another tenant's, a sentence each. */
export function foreignFindings(tenant: Tenant, usable: readonly string[], owners: Owners): string[] {
  return usable.flatMap((schema) => {
    const other = [...(owners.get(place(tenant.database, schema)) ?? [])].find((id) => id !== tenant.id);
    return other === undefined ? [] : [`its roles may use the schema ${schema} of tenant ${other}`];
  });
}

/** Of what reaches, all that nobody has accepted, a sentence each: in schemas of its own, and in what tenants share. */
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
      ({ kind, schema, name, by }) => `${kind} ${schema}.${name} could reach beyond its tenant, by ${by}`,
    );
  return {
    own: texts(told.filter(({ shared }) => !shared)),
    shared: texts(told.filter(({ shared }) => shared)),
  };
}

/** By database and schema, whose it is. */
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
