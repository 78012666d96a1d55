/** A fleet of fake cells with everything around it, as tests of cells need. */
import { createHash } from "node:crypto";
import type { Decision } from "../../src/decisions/decision.ts";
import { Dispatcher } from "../../src/dispatch/dispatcher.ts";
import type { Cell } from "../../src/fleet/cell/cell.ts";
import { Fleet, type FleetOptions, type Lease } from "../../src/fleet/fleet.ts";
import { Governor } from "../../src/fleet/governor.ts";
import { type CapacityPlan, growingPercent } from "../../src/fleet/policy/capacity.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { type InstanceKey, pooledKey, shapeHash, tenantId } from "../../src/shared/kernel/ids.ts";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import type { CellSetup } from "../../src/shared/protocol/messages.ts";
import type { Tenant } from "../../src/tenants/tenant.ts";
import { operationLimits } from "../support/operation-limits.ts";

export const entry = new URL("./fake-cell.ts", import.meta.url);

export const setup: Omit<CellSetup, "cell" | "ledger"> = {
  applicationName: "rowhouse:test",
  databases: {},
  preset: null,
  requestHeaders: [],
  graphiql: false,
  production: true,
  resultBytes: 1_000_000,
  operations: operationLimits,
  statementTimeoutMs: 30_000,
  patches: {},
};

export const sha = (name: string): string => createHash("sha256").update(name).digest("hex");
export const keyOf = (name: string): InstanceKey => pooledKey(sha(name));

export interface FakeOptions {
  readonly cells?: number;
  readonly instances?: number;
  readonly spare?: number;
  readonly heapMb?: number;
  readonly v8LimitMb?: number;
  readonly instanceHeapMb?: number;
  readonly preset?: string;
  readonly queue?: number;
  readonly concurrency?: number;
  readonly patienceMs?: number;
  readonly buildTimeoutMs?: number;
  readonly drainTimeoutMs?: number;
  readonly idleTtlMs?: number;
  readonly replicas?: number;
  readonly quarantine?: { readonly share: number; readonly windowMs: number };
  readonly stallTimeoutMs?: number;
}

/** A blueprint: its settings, and whether a build of it is still current. */
export interface FakeBlueprint {
  readonly settings?: Record<string, string | boolean>;
  readonly verify?: () => Promise<boolean>;
  readonly tenant?: string;
  readonly leftOut?: BlueprintSpec["leftOut"];
}

export interface Served {
  readonly cell: string;
  readonly instance: number;
  readonly slot: number;
  readonly tenant: string;
}

type Kind = Observation["kind"];
type Seen<Name extends Kind> = Extract<Observation, { kind: Name }>;

export class FakeFleet {
  readonly plan: CapacityPlan;
  readonly fleet: Fleet;
  readonly governor: Governor;
  readonly dispatcher: Dispatcher;
  readonly seen: Observation[] = [];
  readonly cellsGone: string[] = [];
  readonly unshareable: string[] = [];
  readonly blueprints = new Map<string, FakeBlueprint>();
  decide = async (tenant: Tenant): Promise<Decision> => this.decision(tenant.id);
  /** The largest number of cells at any observation. */
  mostCells = 0;
  readonly #waiting = new Set<() => void>();

  constructor(options: FakeOptions = {}) {
    const { cells = 2, heapMb = 128 } = options;
    this.plan = {
      cells,
      boundBy: "memory",
      instances: options.instances ?? 100,
      spare: options.spare ?? 0,
      heapMb,
      hardLimitMb: heapMb * 2,
      v8LimitMb: options.v8LimitMb ?? heapMb * 2 + 1_024,
      growingPercent: growingPercent(heapMb * 2),
      frontMb: 100,
      cellMb: heapMb + 36,
      planMb: 100 + cells * (heapMb + 36),
    };
    const fleetOptions: FleetOptions = {
      plan: this.plan,
      setup: { ...setup, preset: options.preset ?? null },
      entry,
      youngMb: 16,
      instanceHeapMb: options.instanceHeapMb ?? 1,
      drainTimeoutMs: options.drainTimeoutMs ?? 5_000,
      idleTtlMs: options.idleTtlMs ?? 3_600_000,
      replicas: options.replicas ?? 1,
      quarantine: options.quarantine ?? { share: 1, windowMs: 10_000 },
      builds: {
        concurrency: options.concurrency ?? 1,
        queue: options.queue ?? 100,
        timeoutMs: options.buildTimeoutMs ?? 30_000,
      },
      observe: (observation) => this.#observe(observation),
      onPlugins: () => undefined,
      onUnshareable: ({ key }) => this.unshareable.push(key),
      onCellGone: (name) => this.cellsGone.push(name),
    };
    this.fleet = new Fleet(fleetOptions);
    this.governor = new Governor({
      fleet: this.fleet,
      stallTimeoutMs: options.stallTimeoutMs ?? 15_000,
      memoryMb: 100_000,
    });
    this.dispatcher = new Dispatcher({
      fleet: this.fleet,
      decide: (tenant) => this.decide(tenant),
      verify: async ({ tenant }) => this.blueprints.get(tenant.id)?.verify?.() ?? true,
      refuse: () => undefined,
      invalidate: () => undefined,
      observe: (observation) => this.#observe(observation),
      patienceMs: options.patienceMs ?? 60_000,
    });
    this.fleet.open();
    this.governor.open();
  }

  async close(): Promise<void> {
    await this.fleet.close();
    this.governor.close();
  }

  #observe(observation: Observation): void {
    this.seen.push(observation);
    this.mostCells = Math.max(this.mostCells, this.fleet.registry.cellCount);
    for (const look of [...this.#waiting]) look();
  }

  all<Name extends Kind>(kind: Name): Seen<Name>[] {
    return this.seen.filter((each): each is Seen<Name> => each.kind === kind);
  }

  /** The first observation of that kind that matches `is`, past or future. */
  until<Name extends Kind>(
    kind: Name,
    is: (observation: Seen<Name>) => boolean = () => true,
  ): Promise<Seen<Name>> {
    return this.once(() => this.all(kind).find(is));
  }

  /** The first result of `found` that is not undefined; called at each observation. */
  once<Value>(found: () => Value | undefined): Promise<Value> {
    return new Promise((resolve) => {
      const look = (): void => {
        const value = found();
        if (value === undefined) return;
        this.#waiting.delete(look);
        resolve(value);
      };
      this.#waiting.add(look);
      look();
    });
  }

  /** By default a tenant has its own blueprint of the same name; `a@b` is tenant a of blueprint b. */
  spec(name: string): BlueprintSpec {
    const [tenant = "", blueprint = tenant] = name.split("@");
    const { settings = {}, leftOut = [] } = this.blueprints.get(blueprint) ?? {};
    return {
      key: keyOf(blueprint),
      kind: "pooled",
      shape: "full",
      tenant: tenantId(tenant),
      database: "main",
      schemas: [{ logical: "app", physical: tenant }],
      sharedSchemas: [],
      api: null,
      mode: null,
      settings,
      enumTables: 0,
      enumFault: null,
      leftOut,
      readers: [],
    };
  }

  async lease(
    name: string,
    verify: () => Promise<boolean> = async () => true,
    version = "1",
  ): Promise<Lease> {
    const spec = this.spec(name);
    return this.fleet.lease({ spec, tenant: spec.tenant, version, sinceMs: performance.now(), verify });
  }

  decision(name: string): Decision {
    const spec = this.spec(this.blueprints.get(name)?.tenant ?? name);
    const tenant = tenantOf(name);
    return {
      tenant,
      key: spec.key,
      kind: "pooled",
      reason: null,
      hidden: [],
      unsafe: [],
      shape: shapeHash(sha(name)),
      core: shapeHash(sha(name)),
      revisions: {},
      version: "1",
      spec,
      binding: JSON.stringify({ tenant: tenant.id }),
    };
  }

  /** Sends a request of `tenant`; `path` tells the fake cell what to do. */
  async ask(tenant: string, path = "/echo", query = "", signal?: AbortSignal): Promise<Served> {
    const answer = await this.dispatcher.dispatch({
      method: "POST",
      query,
      headers: {},
      body: null,
      signal: signal ?? new AbortController().signal,
      admit: async () => ({ tenant: tenantOf(tenant), settings: {}, signing: null, path, basePath: "" }),
    });
    if (answer.kind !== "text") throw new Error(`answered ${answer.kind}`);
    return JSON.parse(answer.body) as Served;
  }

  cellOf(served: Served): Cell {
    const cell = this.fleet.registry.cells.find(({ id }) => id === served.cell);
    if (cell === undefined) throw new Error(`${served.cell} is gone`);
    return cell;
  }
}

function tenantOf(name: string): Tenant {
  return {
    id: tenantId(name),
    hosts: [],
    database: "main",
    api: null,
    mode: null,
    schemas: [{ logical: "app", physical: name }],
    sharedSchemas: [],
    roles: { anonymous: null, authenticated: null, others: [] },
    settings: {},
    jwt: null,
    session: null,
    realtime: true,
  };
}
