/** How many streams there may be: of all tenants, and of each. */
import { HostError } from "../../shared/kernel/errors.ts";
import type { TenantId } from "../../shared/kernel/ids.ts";
import { ConcurrencyLimit } from "./tenant-concurrency.ts";

export interface StreamLimits {
  readonly connections: number;
  readonly tenantConnections: number;
}

export type Transport = "websocket" | "sse";

export class StreamRoom {
  readonly #tenants: ConcurrencyLimit<TenantId>;
  readonly #all: ConcurrencyLimit<"all">;
  readonly #counts: Record<Transport, number> = { websocket: 0, sse: 0 };

  constructor({ connections, tenantConnections }: StreamLimits) {
    this.#tenants = new ConcurrencyLimit(tenantConnections, () => new HostError("TENANT_BUSY"));
    this.#all = new ConcurrencyLimit(connections, () => new HostError("SERVER_BUSY"));
  }

  get counts(): Readonly<Record<Transport, number>> {
    return this.#counts;
  }

  /** Takes a place; returns the function that gives it back. Throws `SERVER_BUSY` or `TENANT_BUSY`. */
  enter(tenant: TenantId, transport: Transport): () => void {
    this.#all.acquire("all");
    try {
      this.#tenants.acquire(tenant);
    } catch (error) {
      this.#all.release("all");
      throw error;
    }
    this.#counts[transport] += 1;
    return () => {
      this.#counts[transport] -= 1;
      this.#all.release("all");
      this.#tenants.release(tenant);
    };
  }
}
