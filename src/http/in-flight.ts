/** How many requests of each tenant are under way, so that none takes more than its share. */
import { HostError } from "../kernel/errors.ts";
import type { TenantId } from "../kernel/ids.ts";

export class InFlight {
  readonly #counts = new Map<TenantId, number>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** Counts one more, for which a `leave` is owed; throws `TENANT_BUSY` where the tenant has its share. */
  enter(tenant: TenantId): void {
    const count = this.#counts.get(tenant) ?? 0;
    if (count >= this.#most) throw new HostError("TENANT_BUSY");
    this.#counts.set(tenant, count + 1);
  }

  leave(tenant: TenantId): void {
    const count = this.#counts.get(tenant) ?? 0;
    if (count > 1) this.#counts.set(tenant, count - 1);
    else this.#counts.delete(tenant);
  }
}

/** One request's place among its tenant's. */
export class Stay {
  readonly #inFlight: InFlight;
  #tenant: TenantId | null = null;

  constructor(inFlight: InFlight) {
    this.#inFlight = inFlight;
  }

  /** Also where the request turns out to be another tenant's; throws `TENANT_BUSY`. */
  begin(tenant: TenantId): void {
    if (tenant === this.#tenant) return;
    this.end();
    this.#inFlight.enter(tenant);
    this.#tenant = tenant;
  }

  end(): void {
    if (this.#tenant !== null) this.#inFlight.leave(this.#tenant);
    this.#tenant = null;
  }
}
