/** Where tenants come from: one interface, three implementations (a list, a control table, a module). */
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import type { Fault } from "../validation/config-error.ts";
import type { RequestFacts, TenantLookup } from "./router.ts";
import type { Tenant } from "./tenant.ts";

/** Receives the tenant that may have changed; null: any of them. */
export type TenantListener = (tenant: TenantId | null) => void;

/**
 * For requests (`byId`, `byHost`, `resolve`) a source returns the same object for a tenant as long as its
 * record is unchanged, and notifies its listeners before it returns a different one. Lookups reject with
 * `DATABASE_UNREACHABLE` or `INTERNAL` if the source itself fails; a single invalid record means an unknown
 * tenant and a `config.warning`.
 */
export interface TenantSource extends TenantLookup {
  byId(id: string): MaybePromise<Tenant | null>;
  /** `host` in the form that `normaliseHost` returns. */
  byHost(host: string): MaybePromise<Tenant | null>;
  /** Set if the source selects tenants itself. */
  readonly resolve: ((facts: RequestFacts) => Promise<Tenant | null>) | null;
  /** Reports that `tenant` turned out to be out of date: its record is read again before it is returned again. */
  outdate(tenant: Tenant): void;
  /** Every tenant that the source can list. */
  list(): Promise<readonly Tenant[]>;
  /** Number of tenants cached or configured at the moment; makes no query. */
  readonly known: number;
  onChange(listener: TenantListener): void;
  /** Stops the source; the database and listener that it uses stay open. */
  close(): Promise<void>;
}

/** Ids and hosts claimed by more than one of a config's tenants; a missing id is reported elsewhere. */
export function tenantClashes(
  tenants: readonly { readonly id: string | undefined; readonly hosts: readonly string[] }[],
): Fault[] {
  const ids = new Map<string, number>();
  const owners = new Map<string, string>();
  const faults: Fault[] = [];
  for (const [index, { id = `tenants[${index}]`, hosts }] of tenants.entries()) {
    const first = ids.get(id);
    if (first === undefined) ids.set(id, index);
    else faults.push({ path: `tenants[${index}].id`, message: `${id} is also the id of tenants[${first}]` });
    for (const host of new Set(hosts)) {
      const owner = owners.get(host);
      if (owner === undefined) owners.set(host, id);
      else {
        const message = `tenants ${owner} and ${id} both claim the host ${host}`;
        faults.push({ path: `tenants[${index}].hosts`, message });
      }
    }
  }
  return faults;
}
