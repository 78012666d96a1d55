/** Which of the tenants in the control table a host belongs to, in whatever spelling they claim it. */
import { z } from "zod";
import { normaliseHost } from "./host-name.ts";
import type { Clock } from "./record-cache.ts";

export interface HostClaimsOptions {
  /** Reads rows of the control table. */
  readonly rows: (text: string, values: readonly unknown[]) => Promise<readonly unknown[]>;
  /** Told, as a sentence, of a host that more than one tenant claims. */
  readonly contested: (message: string) => void;
  readonly clock: Clock;
  /** How long the spelled ones stand where nothing tells of a change. */
  readonly maxAgeMs: number;
}

interface Claim {
  readonly host: string;
  readonly tenant: string;
  /** Seconds since 1970; 0: from before that was recorded. */
  readonly claimed: number;
}

/** By way of JSON, as a control schema that has not been upgraded has no such column. */
const columns =
  "host, tenant, coalesce(extract(epoch from (to_jsonb(h) ->> 'claimed_at')::timestamptz), 0)::float8 as claimed";
/** As the index of migration 007 has it. */
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
  /** By the host as a Host header is brought to; read once in an epoch. */
  #spelled: Spelled | undefined;

  constructor(options: HostClaimsOptions) {
    this.#options = options;
  }

  /**
   * The id of the tenant that `host`, as `normaliseHost` writes it, belongs to: whoever claimed it first, and nobody where that cannot be told.
   * A tenant that is disabled keeps its claims. `epoch` moves with whatever may have changed.
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
    const told = first[1] < second[1];
    const all = [first, second, ...more].map(([tenant]) => tenant).join(" and ");
    const outcome = told
      ? `it is served for ${first[0]}, who claimed it first`
      : "it is served for none of them";
    this.#options.contested(`tenants ${all} claim the host ${host}: ${outcome}`);
    return told ? first[0] : null;
  }
}
