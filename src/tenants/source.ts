/** Where tenants come from: one contract, three kinds (a list, a control table, a module). */
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import type { Fault } from "../validation/config-error.ts";
import type { RequestFacts, TenantLookup } from "./router.ts";
import type { Tenant } from "./tenant.ts";

/** Tells which tenant may have changed; null: any of them. */
export type TenantListener = (tenant: TenantId | null) => void;

/**
 * For requests (`byId`, `byHost`, `resolve`) a source gives the same object for a tenant for as long as its record
 * stays the same, and tells its listeners before it gives another one. Lookups reject with `DATABASE_UNREACHABLE` or `INTERNAL` where the source itself
 * fails; a single bad record is an unknown tenant and a `config.warning`.
 */
export interface TenantSource extends TenantLookup {
  byId(id: string): MaybePromise<Tenant | null>;
  /** `host` as `normaliseHost` writes it. */
  byHost(host: string): MaybePromise<Tenant | null>;
  /** Set where the source chooses tenants itself. */
  readonly resolve: ((facts: RequestFacts) => Promise<Tenant | null>) | null;
  /** Told when `tenant` was found out of date: its record is read again before it is given again. */
  outdate(tenant: Tenant): void;
  /** Every tenant that the source can name. */
  list(): Promise<readonly Tenant[]>;
  /** How many tenants it knows of at the moment, without asking anyone. */
  readonly known: number;
  onChange(listener: TenantListener): void;
  /** Stops listening; what it was opened on stays open. */
  close(): Promise<void>;
}

/** Ids and hosts that more than one of a config's tenants claims; a tenant without an id is at fault already. */
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
