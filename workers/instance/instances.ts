/** The instances of a thread. */

import { AsyncLocalStorage } from "node:async_hooks";
import { makeSchema } from "postgraphile/graphile-build";
import type { GraphQLSchema } from "postgraphile/graphql";
import { HostError, messageOf } from "../../src/shared/kernel/errors.ts";
import type { TenantId } from "../../src/shared/kernel/ids.ts";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import type {
  BuildReport,
  CellSetup,
  PoolFigures,
  RenewalCounts,
} from "../../src/shared/protocol/messages.ts";
import { leaveOutExportMarks } from "../graphile/export-marks.ts";
import { lightenMiddleware } from "../graphile/middleware.ts";
import { Patching } from "../graphile/patching.ts";
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
import { type BuildingAdaptor, buildingAdaptor } from "./build-adaptor.ts";
import { compactSchema } from "./compact-schema.ts";
import { Growth } from "./heap-accounting.ts";
import { assertSameApi, keptIn, withoutLeftOut } from "./left-out-proof.ts";
import { instancePreset } from "./preset.ts";

export class Instances {
  readonly #setup: CellSetup;
  readonly #log: Log;
  readonly #onData: (tenant: string) => void;
  readonly #patching: Patching;
  /** Codecs that could not be given their text. */
  readonly #codecFaults: readonly string[];
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

  /** `onData` is called with the tenant for whom bytes have come from PostgreSQL. */
  constructor(
    setup: CellSetup,
    log: Log,
    patching: Patching = new Patching(setup.patches),
    onData = (_tenant: string): void => undefined,
  ) {
    this.#setup = setup;
    this.#log = log;
    this.#patching = patching;
    this.#onData = onData;
    patching.apply("export-marks", leaveOutExportMarks);
    patching.apply("select-texts", rememberSelectTexts);
    patching.apply("change-texts", rememberChangeTexts);
    patching.apply("planning-time", countPlanningByCpu);
    this.#codecFaults = keepSchemasInText();
  }

  /** Builds an instance and keeps it under `id`; throws `BUILD_FAILED`, `BUILD_NOT_SHAREABLE` or `DATABASE_UNREACHABLE`. */
  async build(id: number, spec: BlueprintSpec): Promise<BuildReport> {
    this.growth.begin(this.#live.size === 0);
    try {
      const built = await this.#build(id, spec);
      const unfitPatches = this.#patching.unfit;
      return { ...built, heapBytes: null, ...this.growth.add(id, built.types), unfitPatches };
    } finally {
      this.growth.end();
    }
  }

  async #build(
    id: number,
    spec: BlueprintSpec,
  ): Promise<Pick<BuildReport, "buildMs" | "types" | "unhonoured" | "unknownPlugins">> {
    const startedAt = performance.now();
    this.#patching.assertSafe();
    if (this.#codecFaults.length > 0) {
      throw new HostError(
        "BUILD_FAILED",
        `this version of @dataplan/pg is not supported: its codecs have changed for ${this.#codecFaults.join(", ")}`,
      );
    }
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
    const { preset, unhonoured, unknownPlugins } = await instancePreset({
      setup: this.#setup,
      spec,
      building,
      serving: () => serving,
      isServing: () => live,
      log: this.#log,
      patching: this.#patching,
    });
    const { schema, resolvedPreset } = await made(preset, building, spec);
    if (spec.kind === "pooled" && building.otherQueries() > spec.enumTables) {
      throw new HostError(
        "BUILD_NOT_SHAREABLE",
        `the build ran ${building.otherQueries()} queries besides introspection, but the shape covers only ${spec.enumTables}`,
      );
    }
    if (spec.kind === "pooled" && building.readBySettings()) {
      throw new HostError(
        "BUILD_NOT_SHAREABLE",
        "the build read rows under the preset's pgSettingsForIntrospection, so a tenant may see rows that the shape does not cover",
      );
    }
    if (spec.leftOut.length > 0) await this.#proveLeftOut(spec, sessions, building, schema);
    compactSchema(schema);
    live = true;
    await this.#open(id, schema, resolvedPreset);
    const buildMs = performance.now() - startedAt;
    return { buildMs, types: Object.keys(schema.getTypeMap()).length, unhonoured, unknownPlugins };
  }

  /**
   * Serves `schema` as the instance `id`. Apart from the build: what its closures share with the adaptors' outlives
   * the instance, and must not hold the schema.
   */
  async #open(id: number, schema: GraphQLSchema, preset: GraphileConfig.ResolvedPreset): Promise<void> {
    const serv = new CellServ({ schema, preset }, this.#requests, this.#setup.operations);
    await serv.opened();
    this.#patching.apply("middleware", () => lightenMiddleware(serv));
    this.#patching.apply("plan-cache", () => {
      const forget = keepPlansIn(this.plans, schema, preset);
      if (forget !== null) this.#forgetPlans.set(id, forget);
      return forget !== null;
    });
    this.#live.set(id, serv);
  }

  /** Builds `schema` again without what `spec` leaves out, and throws `BUILD_NOT_SHAREABLE` where that is another. */
  async #proveLeftOut(
    spec: BlueprintSpec,
    sessions: TenantPool,
    building: BuildingAdaptor,
    schema: GraphQLSchema,
  ): Promise<void> {
    const introspected = building.takeIntrospected();
    const row: unknown = introspected?.rows[0];
    if (introspected === null || typeof row !== "object" || row === null || !("introspection" in row)) {
      throw new HostError("BUILD_FAILED", "the build did not run introspection");
    }
    const introspection = withoutLeftOut(String(row.introspection), spec);
    const answered = { ...introspected, rows: [{ ...row, introspection }] };
    const again = buildingAdaptor(sessions, spec, new StatementNames(spec), answered);
    const { preset } = await instancePreset({
      setup: this.#setup,
      spec,
      building: again,
      serving: () => {
        throw new HostError("INTERNAL", "the schema of a proof serves no requests");
      },
      isServing: () => false,
      // The first build has logged it all.
      log: () => undefined,
      patching: this.#patching,
    });
    const without = await made(preset, again, spec);
    assertSameApi(spec, schema, without.schema);
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
    readonly renewals: RenewalCounts;
    readonly readOnly: readonly string[];
  } {
    const sum = { total: 0, idle: 0, waiting: 0, reserve: 0 };
    const renewals = { tenants: 0, age: 0, memory: 0 };
    for (const sessions of this.#databases.values()) {
      const { stats } = sessions;
      const renewed = sessions.takeRenewals();
      renewals.tenants += renewed.tenants;
      renewals.age += renewed.age;
      renewals.memory += renewed.memory;
      sum.total += stats.total;
      sum.idle += stats.idle;
      sum.waiting += stats.waiting;
      sum.reserve += stats.reserve;
    }
    const guardChecks = this.#guardChecks;
    this.#guardChecks = 0;
    const readOnly = [...this.#databases].filter(([, each]) => each.readOnly).map(([name]) => name);
    return { connections: sum, guardChecks, renewals, readOnly };
  }

  #sessions(name: string): TenantPool {
    const existing = this.#databases.get(name);
    if (existing !== undefined) return existing;
    const database = this.#setup.databases[name];
    if (database === undefined) throw new HostError("INTERNAL", `there is no database named ${name}`);
    const sessions = new TenantPool({
      url: database.url,
      poolSize: database.poolSize,
      poolReserve: database.poolReserve,
      renewAfter: database.renewAfter,
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

/** The schema of `preset`, which `building` reads the database for. */
async function made(
  preset: GraphileConfig.ResolvedPreset,
  building: BuildingAdaptor,
  spec: BlueprintSpec,
): Promise<{ schema: GraphQLSchema; resolvedPreset: GraphileConfig.ResolvedPreset }> {
  const result = await makeSchema(preset).catch((error: unknown) => {
    const reason = building.lost() ?? error;
    if (spec.leftOut.length === 0 || reason instanceof HostError) throw reason;
    // Perhaps with it; else that build says why.
    throw keptIn(spec, `no schema can be built without it: ${messageOf(reason)}`);
  });
  // What a plugin made of a build without some of its rows is not kept.
  const lost = building.lost();
  if (lost !== null) throw lost;
  return result;
}

/** What PostGraphile throws while it builds `spec`, as an error of the host; its message is for the log, and says which schemas it means. */
export function buildError(error: unknown, spec: Pick<BlueprintSpec, "schemas">): HostError {
  if (error instanceof HostError) return error;
  const lost = causesOf(error).find(saysUnreachable);
  if (lost !== undefined) return lost;
  const message = messageOf(error);
  const renamed = spec.schemas.filter(
    ({ logical, physical }) => logical !== physical && message.includes(logical),
  );
  const said = renamed
    .map(({ logical, physical }) => `schema ${logical} is ${physical} in PostgreSQL`)
    .join(", ");
  return new HostError("BUILD_FAILED", said === "" ? message : `${message} (${said})`, { cause: error });
}
