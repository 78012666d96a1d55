/** Tokens of every kind, and a tenant that accepts them. */
import { generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { SignJWT } from "jose";
import { Authenticator, type Settings } from "../../src/auth/authenticator.ts";
import type { RequestFacts } from "../../src/tenants/router.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";

export const secret = randomBytes(24).toString("hex");
export const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
export const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
export const ed = generateKeyPairSync("ed25519");
export const pem = (key: KeyObject): string => key.export({ type: "spki", format: "pem" }).toString();

export const roles = { anonymous: "acme_anonymous", authenticated: "acme_user", others: ["acme_admin"] };

export function tenant(more: object = {}): Tenant {
  const record = { id: "acme", schemas: ["acme"], roles, jwt: { secret }, ...more };
  return parseTenant(record, { database: "main", databases: ["main"] });
}

export function facts(authorization: string | null): RequestFacts {
  const header = (name: string) => (name === "authorization" ? authorization : null);
  return { method: "POST", path: "/graphql", query: "", host: null, header, remoteAddress: null };
}

interface Signing {
  readonly key?: KeyObject | Uint8Array;
  readonly header?: Record<string, unknown> & { alg?: string };
}

/** Tokens that no library would sign, with header and payload as given. */
export const unsigned = (header: object, payload: object, signature = ""): string =>
  [header, payload].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".") +
  `.${signature}`;

export async function token(claims: Record<string, unknown>, { key, header }: Signing = {}): Promise<string> {
  return new SignJWT({ aud: "acme", ...claims })
    .setProtectedHeader({ alg: "HS256", ...header })
    .sign(key ?? Buffer.from(secret));
}

/** With a promise for every answer, also those that are there at once. */
export class Identities extends Authenticator {
  override async settings(...of: Parameters<Authenticator["settings"]>): Promise<Settings> {
    return super.settings(...of);
  }
}

export const identities = new Identities({
  sessions: () => {
    throw new Error("no function is asked here");
  },
});

export const settingsOf = async (of: Tenant, claims: Record<string, unknown>, signing?: Signing) =>
  identities.settings(of, facts(`Bearer ${await token(claims, signing)}`));

export const codeOf = (settings: Promise<unknown>): Promise<string> =>
  settings.then(
    (value) => `accepted ${JSON.stringify(value)}`,
    (error: { code: string }) => error.code,
  );

export const seconds = (ms: number): number => Math.floor(Date.now() / 1_000) + ms;
