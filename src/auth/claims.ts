/** Turns a token's claims into the settings of its request's transactions. Names and values are hostile input. */
import type { HostError } from "../shared/kernel/errors.ts";
import { listedRoles, type Tenant } from "../tenants/tenant.ts";
import { refusedToken } from "./refused-token.ts";

/** What a verified token says about its bearer. */
export interface Bearer {
  /** The role that it names; undefined or null if none. */
  readonly role: unknown;
  readonly claims: Readonly<Record<string, unknown>>;
  /** How long it stays valid from now; infinite if it does not say. */
  readonly remainingMs: number;
}

/**
 * One part of a PostgreSQL setting's name. Letters beyond ASCII and `$` would be legal too, but in a claim
 * they are more likely an attack. Claims with other names (`https://example.com/groups`) are ignored.
 */
const namePattern = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const maxClaims = 64;
const maxBytes = 16_384;

/**
 * Returns `role`, if there is one, and `jwt.claims.*`; throws `TOKEN_INVALID` for a role that the tenant does
 * not list, or a claim that a setting cannot hold.
 */
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
    // PostgreSQL's setting names are case-insensitive: one of the two would overwrite the other.
    const folded = name.toLowerCase();
    if (seen.has(folded)) throw refuse("two claims of the token differ only in the case of their names");
    seen.add(folded);
    if (text.includes("\0") || !text.isWellFormed()) {
      throw refuse("a claim of the token contains a NUL or an unpaired surrogate");
    }
    bytes += name.length + Buffer.byteLength(text);
    settings[`jwt.claims.${name}`] = text;
  }
  if (seen.size > maxClaims) throw refuse(`the token has more than ${maxClaims} claims`);
  if (bytes > maxBytes) throw refuse(`the claims of the token are longer than ${maxBytes} bytes`);
  return settings;
}

/** A token that names no role gets the authenticated role; one that names an unlisted role is rejected. */
function chooseRole({ id, roles }: Tenant, named: unknown): string | null {
  const listed = listedRoles(roles);
  if (named === undefined || named === null) {
    if (roles.authenticated !== null || listed.length === 0) return roles.authenticated;
    throw refusedToken(id, "no-role", "the token names no role, and roles.authenticated is not set");
  }
  if (typeof named === "string" && listed.includes(named)) return named;
  throw refusedToken(id, "role-not-listed", "the token names a role that is not in the tenant's roles");
}

/**
 * The claim as `current_setting` will return it: strings unchanged, everything else as JSON; null if the
 * claim is empty.
 */
function claimText(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  return typeof value === "string" ? value : JSON.stringify(value);
}
