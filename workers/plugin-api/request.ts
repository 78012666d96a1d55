/** The request that a plugin's code runs for: its tenant, and its access to PostgreSQL. */

import { HostError } from "../../src/shared/kernel/errors.ts";
import type { TenantId } from "../../src/shared/kernel/ids.ts";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import { type RequestScope, type RequestSettings, requestScope } from "../request/request-scope.ts";

export type Row = Readonly<Record<string, unknown>>;

export interface TenantClient {
  /** Runs `text` with `values` as its parameters `$1`, `$2`… and returns its rows. */
  query(text: string, values?: readonly unknown[]): Promise<readonly Row[]>;
}

export interface TenantRequest extends TenantClient {
  readonly tenant: TenantId;
  readonly binding: TenantBinding;
  /** The role that its SQL runs as; null means the connecting role. */
  readonly role: string | null;
  /** All settings of its transactions by name, including role and claims. */
  readonly settings: Readonly<Record<string, string>>;
  /**
   * The request's headers that the cell receives, which are `accept-language` and those named by `requestHeaders`; names in lower
   * case.
   */
  readonly headers: Readonly<Record<string, string>>;
  /** The headers named by `requestHeaders`: like the settings, they are part of the caller's identity. */
  readonly identifyingHeaders: Readonly<Record<string, string>>;
  /** Aborts when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
  /**
   * Runs one statement as the request: with its tenant's search path, its role and its settings. A read takes one round trip; a
   * statement that writes is a transaction of its own.
   */
  query(text: string, values?: readonly unknown[]): Promise<readonly Row[]>;
  /** Runs `work` in one transaction of the request, which commits when it returns and rolls back when it throws. */
  transaction<Value>(work: (client: TenantClient) => Promise<Value>): Promise<Value>;
}

/** The part that is known before there is a context; enough to make one. */
export type RequestIdentity = Pick<TenantRequest, "tenant" | "binding" | "headers">;

interface Query {
  readonly text: string;
  readonly values: unknown[];
}

type Single = (settings: RequestSettings, query: Query) => Promise<{ readonly rows: readonly unknown[] }>;

type WithPgClient = <Value>(
  settings: RequestSettings,
  callback: (client: {
    query(query: Query): Promise<{ readonly rows: readonly unknown[] }>;
  }) => Promise<Value>,
) => Promise<Value>;

interface ServingContext {
  readonly pgSettings: RequestSettings & { readonly [requestScope]: RequestScope };
  readonly withPgClient: WithPgClient & { readonly single: Single };
}

function isServingContext(context: object): context is ServingContext {
  if (!("pgSettings" in context && "withPgClient" in context)) return false;
  const { pgSettings, withPgClient } = context;
  const sealed = typeof pgSettings === "object" && pgSettings !== null && requestScope in pgSettings;
  return sealed && typeof withPgClient === "function" && "single" in withPgClient;
}

function isRow(row: unknown): row is Row {
  return typeof row === "object" && row !== null;
}

const statement = (text: string, values: readonly unknown[] = []): Query => ({ text, values: [...values] });

/**
 * The request that `context` (the result of Grafast's `context()` step) belongs to; throws if it is no request's. Its SQL is
 * refused once the request has been answered, and while another request's code runs.
 */
export function requestOf(context: object): TenantRequest {
  if (!isServingContext(context)) {
    throw new HostError("INTERNAL", "not a Rowhouse request's context: pass the value of the context() step");
  }
  const { pgSettings, withPgClient } = context;
  const scope = pgSettings[requestScope];
  const { binding, headers, identifyingHeaders, signal } = scope;
  const settings = Object.fromEntries(
    Object.entries(pgSettings).flatMap(([name, value]) => (value == null ? [] : [[name, String(value)]])),
  );
  return {
    tenant: binding.tenant,
    binding,
    role: settings["role"] ?? null,
    settings,
    headers,
    identifyingHeaders,
    signal,
    async query(text, values) {
      const { rows } = await withPgClient.single(pgSettings, statement(text, values));
      return rows.filter(isRow);
    },
    transaction: (work) =>
      withPgClient(pgSettings, (client) =>
        work({
          async query(text, values) {
            const { rows } = await client.query(statement(text, values));
            return rows.filter(isRow);
          },
        }),
      ),
  };
}

/**
 * The tenant of the request, from the `requestContext` that a preset's `grafast.context` and grafserv's middleware receive;
 * throws if it is no request's.
 */
export function tenantOf(requestContext: Partial<Grafast.RequestContext>): RequestIdentity {
  const scope = requestContext.rowhouse;
  if (scope === undefined) throw new HostError("INTERNAL", "not a Rowhouse request's context");
  const { binding, headers } = scope;
  return { tenant: binding.tenant, binding, headers };
}
