/** Asks a tenant's own SQL function whom a token stands for. */
import { QuoteUtils } from "@pgsql/quotes";
import { z } from "zod";
import type { Database } from "../postgres/database.ts";
import { wasInterrupted } from "../shared/connect/loss.ts";
import { codeOf, HostError } from "../shared/kernel/errors.ts";
import { randomSeed } from "../shared/postgres/random-seed.ts";
import { searchPathText } from "../shared/postgres/search-path.ts";
import type { SessionRules } from "../tenants/session-config.ts";
import type { Tenant } from "../tenants/tenant.ts";
import type { Bearer } from "./claims.ts";
import { refusedToken } from "./refused-token.ts";
import { sessionTimeoutMs } from "./session-databases.ts";

const maxBytes = 65_536;

/** The database's clock decides what is over, as it is the one that the function goes by. */
const sessionQuery = ({ schema, function: name }: SessionRules): string => `
  select case when pg_catalog.octet_length(answer) <= ${maxBytes} then answer end as answer,
    answer is null as absent, pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) as now
  from (
    select pg_catalog.to_jsonb(${QuoteUtils.quoteQualifiedIdentifier(schema, name)}($1::pg_catalog.text))::pg_catalog.text
    limit 2
  ) as asked (answer)`;

const row = z.object({ answer: z.string().nullable(), absent: z.boolean(), now: z.number() });

/** Seconds since 1970, or a `timestamptz` as PostgreSQL writes it; without an offset it could be any time. */
const moment = z.union([
  z.number().transform((seconds) => seconds * 1_000),
  z
    .string()
    .regex(/(?:Z|[+-]\d{2}(?::?\d{2})?)$/)
    // JavaScript wants minutes in an offset.
    .transform((text) => Date.parse(text.replace(/([+-]\d{2})$/, "$1:00")))
    .refine((ms) => !Number.isNaN(ms)),
]);

/** Strict: an `expires_at` that nobody reads would leave a session without its end. */
const session = z.strictObject({
  role: z.string().nullish(),
  claims: z.record(z.string(), z.unknown()).nullish(),
  expiresAt: moment.nullish(),
  tenant: z.string().nullish(),
});

/**
 * Whom `token` stands for at `tenant`, whose rules `rules` are. Rejects with `TOKEN_INVALID` where the function knows
 * nobody, `TOKEN_EXPIRED`, `TOKEN_UNVERIFIABLE` where it takes too long, `DATABASE_UNREACHABLE`, and `INTERNAL` where it
 * fails otherwise or gives no session. No message repeats what PostgreSQL said: it may have quoted the token.
 */
export async function askSession(
  database: Database,
  tenant: Tenant,
  rules: SessionRules,
  token: string,
): Promise<Bearer> {
  const { answer, absent, now } = await ask(database, tenant, rules, token);
  if (absent) throw refusedToken(tenant.id, "unknown-session", "its session function knows no such token");
  const found = session.safeParse(parseJson(answer));
  if (!found.success) throw noSession(tenant);
  const { role, claims, expiresAt, tenant: named } = found.data;
  // A variable that no row was found for, or OUT parameters that nothing was put in, give an answer of nulls: nobody.
  if (role == null && expiresAt == null && Object.values(claims ?? {}).every((claim) => claim === null)) {
    throw refusedToken(tenant.id, "unknown-session", "its session function found nobody");
  }
  // A function outside of the tenant's own schemas may be others' as well: it has to say whose session it found.
  if (named == null ? !rules.own : named !== tenant.id) {
    throw refusedToken(tenant.id, "other-tenant", "the session names another tenant, or none");
  }
  const remainingMs = expiresAt == null ? Number.POSITIVE_INFINITY : expiresAt - now * 1_000;
  if (remainingMs <= 0) throw new HostError("TOKEN_EXPIRED", `tenant ${tenant.id}: the session is over`);
  return { role, claims: claims ?? {}, remainingMs };
}

const noSession = ({ id }: Tenant): HostError =>
  new HostError("INTERNAL", `tenant ${id}: its session function gave something that is no session`);

/** In a transaction that cannot write: what it answers is remembered, so that it is not called for every request. */
async function ask(
  database: Database,
  tenant: Tenant,
  rules: SessionRules,
  token: string,
): Promise<z.output<typeof row>> {
  const path = [...tenant.schemas.map(({ physical }) => physical), ...tenant.sharedSchemas];
  const role = rules.role ?? tenant.roles.anonymous ?? "none";
  try {
    return await database.transaction(async (transaction) => {
      await transaction.query("set transaction read only");
      await transaction.query(
        `select set_config('statement_timeout', $1, true), set_config('role', $2, true), set_config('seed', $4, true), set_config('search_path', $3, true)`,
        [String(sessionTimeoutMs), role, searchPathText(path), randomSeed()],
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
 * What an error of the function means. Token in hand, it may raise one to say no (P0001, class 28), and its own casts may
 * fail on a token that is none (class 22).
 */
function sessionFailure({ id }: Tenant, error: unknown): HostError {
  if (error instanceof HostError) return error;
  const code = codeOf(error) ?? "none";
  if (/^(?:P0001|22...|28...)$/.test(code)) {
    return refusedToken(id, "unknown-session", `its session function refused the token (${code})`);
  }
  if (wasInterrupted(error, "57014")) {
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
