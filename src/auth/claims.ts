/** From what a token claims to the settings of its request's transactions. Names and values are hostile text. */
import type { HostError } from "../shared/kernel/errors.ts";
import { listedRoles, type Tenant } from "../tenants/tenant.ts";
import { refusedToken } from "./refused-token.ts";

/** Whom a token stands for, after it was verified. */
export interface Bearer {
  /** What it says of its role; undefined or null where it says nothing. */
  readonly role: unknown;
  readonly claims: Readonly<Record<string, unknown>>;
  /** How long it is good for from now on; infinite where it does not say. */
  readonly remainingMs: number;
}

/**
 * One part of a PostgreSQL setting's name. Letters beyond ASCII and a `$` would do too; as claims they are rather
 * somebody's try. A claim of another name (`https://example.com/groups`) is no setting, and is left out.
 */
const namePattern = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const maxClaims = 64;
const maxBytes = 16_384;

/** `role`, where there is one, and `jwt.claims.*`; throws `TOKEN_INVALID` for what the tenant does not list or a setting cannot hold. */
export function bearerSettings(tenant: Tenant, { role, claims }: Bearer): Readonly<Record<string, string>> {
  const chosen = chooseRole(tenant, role);
  const settings: Record<string, string> = chosen === null ? {} : { role: chosen };
  const refuse = (why: string): HostError => refusedToken(tenant.id, "claims", why);
  const seen = new Set<string>();
  let bytes = 0;
  for (const [name, value] of Object.entries(claims)) {
    if (!namePattern.test(name)) continue;
    const text = claimText(value);
    if (text === null) continue;
    // PostgreSQL compares names of settings without case: one of the two would win.
    const folded = name.toLowerCase();
    if (seen.has(folded)) throw refuse("two claims of the token differ in the case of their names only");
    seen.add(folded);
    if (text.includes("\0") || !text.isWellFormed()) {
      throw refuse("a claim of the token holds a NUL or half a character");
    }
    bytes += name.length + Buffer.byteLength(text);
    settings[`jwt.claims.${name}`] = text;
  }
  if (seen.size > maxClaims) throw refuse(`the token has more than ${maxClaims} claims`);
  if (bytes > maxBytes) throw refuse(`the claims of the token are longer than ${maxBytes} bytes`);
  return settings;
}

/** A token that names no role is the authenticated role's; one that names a role that is not listed is nobody's. */
function chooseRole({ id, roles }: Tenant, named: unknown): string | null {
  const listed = listedRoles(roles);
  if (named === undefined || named === null) {
    if (roles.authenticated !== null || listed.length === 0) return roles.authenticated;
    throw refusedToken(id, "no-role", "the token names no role, and roles.authenticated is not set");
  }
  if (typeof named === "string" && listed.includes(named)) return named;
  throw refusedToken(id, "role-not-listed", "the token names a role that the tenant's roles do not list");
}

/** As `current_setting` is to give it: texts as they are, anything with parts as JSON; null for a claim of nothing. */
function claimText(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  return typeof value === "string" ? value : JSON.stringify(value);
}
