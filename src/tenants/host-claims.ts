/** Which tenant in the control table owns a host, however the claim is spelled. */
import { z } from "zod";
import { normaliseHost } from "./host-name.ts";
import type { Clock } from "./record-cache.ts";

export interface HostClaimsOptions {
  /** Reads rows of the control table. */
  readonly rows: (text: string, values: readonly unknown[]) => Promise<readonly unknown[]>;
  /** Called with a sentence about a host that more than one tenant claims. */
  readonly contested: (message: string) => void;
  readonly clock: Clock;
  /** How long claims that need normalising are cached if no change is reported. */
  readonly maxAgeMs: number;
}

interface Claim {
  readonly host: string;
  readonly tenant: string;
  /** Seconds since 1970; 0: claimed before the time was recorded. */
  readonly claimed: number;
}

/** Goes through JSON because a control schema that has not been upgraded lacks the column. */
const columns =
  "host, tenant, coalesce(extract(epoch from (to_jsonb(h) ->> 'claimed_at')::timestamptz), 0)::float8 as claimed";
/** Must match the index of migration 007. */
const spelled = String.raw`host collate "C" !~ '^([a-z0-9_-]+\.)*[a-z_-][a-z0-9_-]*$'`;
const statements = {
  named: `select ${columns} from rowhouse.tenant_host h where host = $1`,
  spelled: `select ${columns} from rowhouse.tenant_host h where ${spelled}`,
};

interface Spelled {
  readonly epoch: number;
  readonly atMs: number;
  readonly claims: Promise<ReadonlyMap<string, readonly Claim[]>>;
}

const claimRow = z.object({ host: z.string(), tenant: z.string(), claimed: z.number() });

export class HostClaims {
  readonly #options: HostClaimsOptions;
  /** Claims that need normalising, by normalised host; read once per epoch. */
  #spelled: Spelled | undefined;

  constructor(options: HostClaimsOptions) {
    this.#options = options;
  }

  /**
   * The id of the tenant that owns `host` (normalised): the one that claimed it first, or null if that cannot
   * be determined. A disabled tenant keeps its claims. `epoch` changes whenever claims may have changed.
   */
  async ownerOf(host: string, epoch: number): Promise<string | null> {
    const [named, others] = await Promise.all([
      this.#options.rows(statements.named, [host]),
      this.#spelledIn(epoch),
    ]);
    return this.#decide(host, [...named.map((row) => claimRow.parse(row)), ...(others.get(host) ?? [])]);
  }

  #spelledIn(epoch: number): Promise<ReadonlyMap<string, readonly Claim[]>> {
    const { clock, maxAgeMs } = this.#options;
    const known = this.#spelled;
    const atMs = clock.now();
    if (known?.epoch === epoch && atMs - known.atMs <= maxAgeMs) return known.claims;
    const claims = this.#options.rows(statements.spelled, []).then((rows) => {
      const parsed = rows.map((row) => claimRow.parse(row));
      return Map.groupBy(parsed, ({ host }) => normaliseHost(host) ?? "");
    });
    const read = { epoch, atMs, claims };
    this.#spelled = read;
    claims.catch(() => {
      if (this.#spelled === read) this.#spelled = undefined;
    });
    return claims;
  }

  #decide(host: string, claims: readonly Claim[]): string | null {
    const firsts = new Map<string, number>();
    for (const { tenant, claimed } of claims) {
      firsts.set(tenant, Math.min(claimed, firsts.get(tenant) ?? claimed));
    }
    const [first, second, ...more] = [...firsts].sort(([, a], [, b]) => a - b);
    if (first === undefined) return null;
    if (second === undefined) return first[0];
    const isFirstOlder = first[1] < second[1];
    const all = [first, second, ...more].map(([tenant]) => tenant).join(" and ");
    const outcome = isFirstOlder
      ? `it is routed to ${first[0]}, which claimed it first`
      : "it is routed to none of them";
    this.#options.contested(`tenants ${all} claim the host ${host}: ${outcome}`);
    return isFirstOlder ? first[0] : null;
  }
}
