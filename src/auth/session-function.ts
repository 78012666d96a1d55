/** Calls a tenant's SQL function to find out whom a session token belongs to. */

import { QuoteUtils } from "@pgsql/quotes";
import { z } from "zod";
import type { Database } from "../postgres/database.ts";
import { wasInterrupted } from "../shared/connect/loss.ts";
import { codeOf, HostError } from "../shared/kernel/errors.ts";
import { pathSchemas } from "../shared/model/blueprint-spec.ts";
import { randomSeed } from "../shared/postgres/random-seed.ts";
import { searchPathText } from "../shared/postgres/search-path.ts";
import type { SessionRules } from "../tenants/session-config.ts";
import type { Tenant } from "../tenants/tenant.ts";
import type { Bearer } from "./claims.ts";
import { refusedToken } from "./refused-token.ts";
import { sessionTimeoutMs } from "./session-databases.ts";

const maxBytes = 65_536;

/** Expiry is judged by the database's clock, because the function uses it as well. */
const sessionQuery = ({ schema, function: name }: SessionRules): string => `
  select case when pg_catalog.octet_length(answer) <= ${maxBytes} then answer end as answer,
    answer is null as absent, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) as now
  from (
    select pg_catalog.to_jsonb(${QuoteUtils.quoteQualifiedIdentifier(schema, name)}($1::pg_catalog.text))::pg_catalog.text
    limit 2
  ) as asked (answer)`;

const row = z.object({ answer: z.string().nullable(), absent: z.boolean(), now: z.number() });

/**
 * Seconds since 1970, or a `timestamptz` as PostgreSQL formats it; without an offset the moment would be
 * ambiguous.
 */
const moment = z.union([
  z.number().transform((seconds) => seconds * 1_000),
  z
    .string()
    .regex(/(?:Z|[+-]\d{2}(?::?\d{2})?)$/)
    // JavaScript requires minutes in an offset.
    .transform((text) => Date.parse(text.replace(/([+-]\d{2})$/, "$1:00")))
    .refine((ms) => !Number.isNaN(ms)),
]);

/** Strict: a misspelled key such as `expires_at` would otherwise leave a session without an end. */
const session = z.strictObject({
  role: z.string().nullish(),
  claims: z.record(z.string(), z.unknown()).nullish(),
  expiresAt: moment.nullish(),
  tenant: z.string().nullish(),
});

/**
 * The bearer of `token` at `tenant`, by its `rules`. Rejects with `TOKEN_INVALID` if the function finds
 * nobody, `TOKEN_EXPIRED`, `TOKEN_UNVERIFIABLE` if it takes too long, `DATABASE_UNREACHABLE`, and `INTERNAL`
 * if it fails otherwise or returns no session. No message repeats PostgreSQL's text, which may quote the
 * token.
 */
export async function askSession(
  database: Database,
  tenant: Tenant,
  rules: SessionRules,
  token: string,
): Promise<Bearer> {
  const { answer, absent, now } = await ask(database, tenant, rules, token);
  if (absent)
    throw refusedToken(tenant.id, "unknown-session", "its session function does not know the token");
  const found = session.safeParse(parseJson(answer));
  if (!found.success) throw noSession(tenant);
  const { role, claims, expiresAt, tenant: named } = found.data;
  // A variable for which no row was found, or unset OUT parameters, give a result of nulls, which means
  // nobody.
  if (role == null && expiresAt == null && Object.values(claims ?? {}).every((claim) => claim === null)) {
    throw refusedToken(tenant.id, "unknown-session", "its session function found nobody");
  }
  // A function outside the tenant's own schemas may be shared: it has to say whose session it found.
  if (named == null ? !rules.own : named !== tenant.id) {
    throw refusedToken(tenant.id, "other-tenant", "the session names another tenant or none");
  }
  const remainingMs = expiresAt == null ? Number.POSITIVE_INFINITY : expiresAt - now * 1_000;
  if (remainingMs <= 0) throw new HostError("TOKEN_EXPIRED", `tenant ${tenant.id}: the session has expired`);
  return { role, claims: claims ?? {}, remainingMs };
}

const noSession = ({ id }: Tenant): HostError =>
  new HostError("INTERNAL", `tenant ${id}: its session function returned an invalid session`);

/** Runs in a read-only transaction: the answer is cached, so the function is not called for every request. */
async function ask(
  database: Database,
  tenant: Tenant,
  rules: SessionRules,
  token: string,
): Promise<z.output<typeof row>> {
  const role = rules.role ?? tenant.roles.anonymous ?? "none";
  try {
    return await database.transaction(async (transaction) => {
      await transaction.query("set transaction read only");
      await transaction.query(
        `select set_config('statement_timeout', $1, true), set_config('role', $2, true), set_config('seed', $4, true), set_config('search_path', $3, true)`,
        [String(sessionTimeoutMs), role, searchPathText(pathSchemas(tenant)), randomSeed()],
      );
      const { rows } = await transaction.query(sessionQuery(rules), [token]);
      if (rows.length > 1) throw noSession(tenant);
      return rows.length === 0 ? { answer: null, absent: true, now: 0 } : row.parse(rows[0]);
    }, tenant.id);
  } catch (error) {
    throw sessionFailure(tenant, error);
  }
}

/**
 * Interprets an error of the function. It may raise one to reject a token (P0001, class 28), and its casts
 * may fail on a malformed token (class 22).
 */
function sessionFailure({ id }: Tenant, error: unknown): HostError {
  if (error instanceof HostError) return error;
  const code = codeOf(error) ?? "none";
  if (/^(?:P0001|22...|28...)$/.test(code)) {
    return refusedToken(id, "unknown-session", `its session function refused the token (${code})`);
  }
  if (wasInterrupted(error, "query_canceled")) {
    return new HostError(
      "TOKEN_UNVERIFIABLE",
      `tenant ${id}: its session function took longer than ${sessionTimeoutMs} ms`,
    );
  }
  return new HostError(
    "INTERNAL",
    `tenant ${id}: its session function cannot be called or failed (SQLSTATE ${code})`,
  );
}

function parseJson(text: string | null): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined;
  }
}
