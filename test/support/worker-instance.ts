/** Instances as in a cell's thread, but in the test's own process, built on and serving tenants of a test database. */

import { setTimeout as sleep } from "node:timers/promises";
import { specOf } from "../../bench/blueprint.ts";
import { cellId, tenantId } from "../../src/shared/kernel/ids.ts";
import type { PatchStates } from "../../src/shared/kernel/patch-policy.ts";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import type { TenantBinding, TenantGuard } from "../../src/shared/model/tenant-binding.ts";
import type { TokenSigning } from "../../src/shared/model/token-signing.ts";
import { receiveBody } from "../../src/shared/protocol/body-stream.ts";
import type { CellSetup, OperationLimits, RequestTask } from "../../src/shared/protocol/messages.ts";
import { Instances } from "../../workers/instance/instances.ts";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { RequestScope } from "../../workers/request/request-scope.ts";
import type { TestDatabase } from "./database.ts";
import { operationLimits } from "./operation-limits.ts";
import { patchStates } from "./patches.ts";

export interface Ask {
  /** The tenant; its physical schema and role have the same name. */
  readonly tenant: string;
  readonly query?: string;
  readonly variables?: Record<string, unknown>;
  readonly settings?: Readonly<Record<string, string>>;
  readonly signing?: TokenSigning;
  readonly roles?: readonly string[];
  readonly searchPath?: readonly string[];
  readonly tag?: string;
  readonly guard?: TenantGuard | null;
  readonly headers?: Record<string, string>;
  /** Names of the headers that are part of the caller's identity. */
  readonly identifying?: readonly string[];
  readonly method?: string;
  readonly path?: string;
  readonly basePath?: string;
  readonly search?: string;
  readonly body?: string | null;
}

export interface Answered {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers are read by tests alone
  readonly json: any;
  readonly ledger: number;
}

export interface WorkerOptions {
  readonly url?: string;
  readonly poolSize?: number;
  readonly poolReserve?: number;
  readonly preset?: string | null;
  readonly graphiql?: boolean;
  readonly production?: boolean;
  readonly resultBytes?: number;
  readonly operations?: Partial<OperationLimits>;
  readonly statementTimeoutMs?: number;
  readonly patches?: PatchStates;
}

export class Worker {
  readonly instances: Instances;
  readonly log: string[] = [];
  readonly #ledger = new Int8Array(new SharedArrayBuffer(8));
  #next = 1;

  constructor(database: TestDatabase, options: WorkerOptions = {}) {
    const setup: CellSetup = {
      cell: cellId(1),
      applicationName: "rowhouse:worker-test",
      databases: {
        main: {
          url: options.url ?? database.url,
          poolSize: options.poolSize ?? 2,
          poolReserve: options.poolReserve ?? 0,
        },
      },
      preset: options.preset ?? null,
      requestHeaders: [],
      graphiql: options.graphiql ?? false,
      production: options.production ?? false,
      resultBytes: options.resultBytes ?? 32_000_000,
      operations: { ...operationLimits, ...options.operations },
      statementTimeoutMs: options.statementTimeoutMs ?? 30_000,
      patches: options.patches ?? patchStates(),
      ledger: new SharedArrayBuffer(8),
    };
    this.instances = new Instances(setup, (level, message) => this.log.push(`${level} ${message}`));
  }

  /** Builds an instance on `schemas`, logical → physical; returns the server that answers its requests. */
  async build(
    kind: "pooled" | "dedicated",
    schemas: Readonly<Record<string, string>>,
    more: Partial<BlueprintSpec> = {},
  ): Promise<CellServ> {
    const id = this.#next++;
    await this.instances.build(id, { ...specOf(kind, schemas, id), ...more });
    const serv = this.instances.get(id);
    if (serv === undefined) throw new Error("built, but not there");
    return serv;
  }

  scope(ask: Ask): RequestScope {
    const binding: TenantBinding = {
      tenant: tenantId(ask.tenant),
      searchPath: ask.searchPath ?? [ask.tenant, "public"],
      statementTag: ask.tag ?? ask.tenant,
      roles: ask.roles ?? [ask.tenant],
      prepares: false,
      notifies: false,
      guard: ask.guard ?? null,
    };
    this.#ledger[0] = 0;
    return new RequestScope({
      slot: 0,
      binding,
      basePath: ask.basePath ?? "",
      settings: ask.settings ?? { role: ask.tenant },
      signing: ask.signing === undefined ? null : JSON.stringify(ask.signing),
      headers: ask.headers ?? {},
      identifying: ask.identifying ?? [],
      ledger: this.#ledger,
    });
  }

  task(ask: Ask, scope: RequestScope): RequestTask {
    const body =
      ask.body === undefined ? JSON.stringify({ query: ask.query, variables: ask.variables }) : ask.body;
    return {
      kind: "request",
      slot: 0,
      instance: 0,
      binding: JSON.stringify(scope.binding),
      settings: {},
      signing: null,
      method: ask.method ?? "POST",
      path: ask.path ?? "/graphql",
      basePath: ask.basePath ?? "",
      query: ask.search ?? "",
      headers: { "content-type": "application/json", accept: "application/json", ...ask.headers },
      body,
    };
  }

  async ask(serv: CellServ, ask: Ask, scope = this.scope(ask)): Promise<Answered> {
    const { answer, sent } = await serv.serve(this.task(ask, scope), scope);
    const text =
      answer.kind === "text"
        ? answer.body
        : answer.kind === "bytes"
          ? new TextDecoder().decode(answer.body)
          : await new Response(receiveBody(answer.port)).text();
    await sent;
    scope.close();
    const { status, headers } = answer;
    const isJson = headers["content-type"]?.includes("json") === true;
    return {
      status,
      headers,
      text,
      json: isJson ? JSON.parse(text) : undefined,
      ledger: this.#ledger[0] ?? 0,
    };
  }
}

/** Polls until `seen` returns something other than undefined or false; for what PostgreSQL does in its own time. */
export async function until<T>(
  seen: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  for (const deadline = Date.now() + 20_000; ; ) {
    const value = await seen();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error("never seen");
    await sleep(10);
  }
}

/** A preset as a module URL; `source` is the module's text. */
export function presetUrl(source: string): string {
  return `data:text/javascript,${encodeURIComponent(source)}`;
}
