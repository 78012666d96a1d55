/** The instances of a thread. */

import { AsyncLocalStorage } from "node:async_hooks";
import { makeSchema } from "postgraphile/graphile-build";
import { HostError, messageOf } from "../../src/shared/kernel/errors.ts";
import type { TenantId } from "../../src/shared/kernel/ids.ts";
import type {
  BlueprintSpec,
  BuildReport,
  CellSetup,
  PoolFigures,
} from "../../src/shared/protocol/messages.ts";
import { leaveOutExportMarks } from "../graphile/export-marks.ts";
import { lightenMiddleware } from "../graphile/middleware.ts";
import { createPlans, keepPlansIn } from "../graphile/plan-cache.ts";
import { keepSchemasInText } from "../graphile/reg-text.ts";
import { rememberChangeTexts } from "../graphile/sql-cache/mutation.ts";
import { rememberSelectTexts } from "../graphile/sql-cache/select.ts";
import { servingAdaptor } from "../postgres/adaptor.ts";
import { TenantPool } from "../postgres/connection-pool.ts";
import { causesOf, saysUnreachable } from "../postgres/outcome.ts";
import { StatementNames } from "../postgres/statement-names.ts";
import type { Log } from "../request/error-mask.ts";
import { CellServ } from "../request/grafserv.ts";
import { countPlanningByCpu } from "../request/planning-time.ts";
import type { RequestScope } from "../request/request-scope.ts";
import { buildingAdaptor } from "./build-adaptor.ts";
import { Growth } from "./heap-accounting.ts";
import { instancePreset } from "./preset.ts";

export class Instances {
  readonly #setup: CellSetup;
  readonly #log: Log;
  readonly #onData: (tenant: string) => void;
  readonly #live = new Map<number, CellServ>();
  readonly #databases = new Map<string, TenantPool>();
  /** Shared by all instances of the thread. */
  readonly plans = createPlans();
  readonly #forgetPlans = new Map<number, () => void>();
  /** The request for which code runs, followed through all that it awaits. */
  readonly #requests = new AsyncLocalStorage<RequestScope>();
  /** Transactions that proved their revisions. */
  #guardChecks = 0;
  /** Measures what builds add to the heap, by a collection that nobody waits for. */
  readonly growth = new Growth();

  /** `onData` is called with the tenant for whom bytes have arrived from PostgreSQL. */
  constructor(setup: CellSetup, log: Log, onData = (_tenant: string): void => undefined) {
    this.#setup = setup;
    this.#log = log;
    this.#onData = onData;
    leaveOutExportMarks();
    rememberSelectTexts();
    rememberChangeTexts();
    countPlanningByCpu();
    keepSchemasInText();
  }

  /** Builds an instance and keeps it under `id`; throws `BUILD_FAILED`, `BUILD_NOT_SHAREABLE` or `DATABASE_UNREACHABLE`. */
  async build(id: number, spec: BlueprintSpec): Promise<BuildReport> {
    this.growth.begin(this.#live.size === 0);
    try {
      const { buildMs, types, unhonoured } = await this.#build(id, spec);
      return { buildMs, heapBytes: null, ...this.growth.add(id, types), types, unhonoured };
    } finally {
      this.growth.end();
    }
  }

  async #build(
    id: number,
    spec: BlueprintSpec,
  ): Promise<Pick<BuildReport, "buildMs" | "types" | "unhonoured">> {
    const startedAt = performance.now();
    if (spec.enumFault !== null) throw new HostError("BUILD_FAILED", spec.enumFault);
    const sessions = this.#sessions(spec.database);
    const names = new StatementNames(spec);
    const building = buildingAdaptor(sessions, spec, names);
    const serving = servingAdaptor(
      sessions,
      () => {
        this.#guardChecks += 1;
      },
      () => this.#requests.getStore(),
      names,
    );
    let live = false;
    const { preset, unhonoured } = await instancePreset(
      this.#setup,
      spec,
      building,
      () => serving,
      () => live,
      this.#log,
    );
    const { schema, resolvedPreset } = await makeSchema(preset).catch((error: unknown) => {
      throw building.lost() ?? error;
    });
    // A build that a plugin completed without some of its rows is discarded.
    const lost = building.lost();
    if (lost !== null) throw lost;
    if (spec.kind === "pooled" && building.otherQueries() > spec.enumTables) {
      throw new HostError(
        "BUILD_NOT_SHAREABLE",
        `the build read ${building.otherQueries()} results beside the catalogue, of which the shape covers ${spec.enumTables}`,
      );
    }
    if (spec.kind === "pooled" && building.readBySettings()) {
      throw new HostError(
        "BUILD_NOT_SHAREABLE",
        "the build read rows with pgSettingsForIntrospection of the preset, by which a tenant may see others than the shape covers",
      );
    }
    live = true;
    const serv = new CellServ({ schema, preset: resolvedPreset }, this.#requests, this.#setup.operations);
    await serv.opened();
    lightenMiddleware(serv);
    this.#forgetPlans.set(id, keepPlansIn(this.plans, schema, resolvedPreset));
    this.#live.set(id, serv);
    const buildMs = performance.now() - startedAt;
    return { buildMs, types: Object.keys(schema.getTypeMap()).length, unhonoured };
  }

  get(id: number): CellServ | undefined {
    return this.#live.get(id);
  }

  /** The tenant whose request the calling code runs for; undefined in a build, or if unknown. */
  get tenant(): TenantId | undefined {
    return this.#requests.getStore()?.binding.tenant;
  }

  async release(id: number): Promise<void> {
    this.growth.release(id);
    const serv = this.#live.get(id);
    this.#live.delete(id);
    this.#forgetPlans.get(id)?.();
    this.#forgetPlans.delete(id);
    await serv?.release();
  }

  /** Figures for the front; the guard checks are those since the last call. */
  takeFigures(): {
    readonly connections: PoolFigures;
    readonly guardChecks: number;
    readonly readOnly: readonly string[];
  } {
    const sum = { total: 0, idle: 0, waiting: 0, reserve: 0 };
    for (const { stats } of this.#databases.values()) {
      sum.total += stats.total;
      sum.idle += stats.idle;
      sum.waiting += stats.waiting;
      sum.reserve += stats.reserve;
    }
    const guardChecks = this.#guardChecks;
    this.#guardChecks = 0;
    const readOnly = [...this.#databases].filter(([, each]) => each.readOnly).map(([name]) => name);
    return { connections: sum, guardChecks, readOnly };
  }

  #sessions(name: string): TenantPool {
    const existing = this.#databases.get(name);
    if (existing !== undefined) return existing;
    const database = this.#setup.databases[name];
    if (database === undefined) throw new HostError("INTERNAL", `no database is called ${name}`);
    const sessions = new TenantPool({
      url: database.url,
      poolSize: database.poolSize,
      poolReserve: database.poolReserve,
      applicationName: this.#setup.applicationName,
      resultBytes: this.#setup.resultBytes,
      statementTimeoutMs: this.#setup.statementTimeoutMs,
      log: (level, message) => this.#log(level, `database ${name}: ${message}`),
      onData: this.#onData,
    });
    this.#databases.set(name, sessions);
    return sessions;
  }
}

/**
 * Converts an error that PostGraphile threw while it built `spec` into an error of the host. The message is for the log, and adds
 * the physical names of the schemas that it mentions.
 */
export function buildError(error: unknown, spec: Pick<BlueprintSpec, "schemas">): HostError {
  if (error instanceof HostError) return error;
  const lost = causesOf(error).find(saysUnreachable);
  if (lost !== undefined) return lost;
  const message = messageOf(error);
  const renamed = spec.schemas.filter(
    ({ logical, physical }) => logical !== physical && message.includes(logical),
  );
  const said = renamed.map(({ logical, physical }) => `${logical} is the schema ${physical}`).join(", ");
  return new HostError("BUILD_FAILED", said === "" ? message : `${message} (${said})`, { cause: error });
}
