/** A host with tenants that accept tokens: signed with a secret of their own, with a secret that two share, and with a public key. */
import { generateKeyPairSync } from "node:crypto";
import { type JWTPayload, SignJWT } from "jose";
import { afterAll, beforeAll } from "vitest";
import { type AuthTenant, authTenant, dropRoles, newSecret } from "./auth-tenants.ts";
import { TestHost } from "./host.ts";
import { createTenantDatabase, type TenantDatabase } from "./host-tenants.ts";

/** A claim of every token that is signed here. */
export const marker = "a-claim-that-nobody-else-may-read";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
export const pem = rsa.publicKey.export({ type: "spki", format: "pem" }).toString();

interface Started {
  readonly database: TenantDatabase;
  readonly host: TestHost;
  readonly acme: AuthTenant;
  readonly globex: AuthTenant;
  readonly initech: AuthTenant;
  readonly hooli: AuthTenant;
}

export class AuthHost {
  /** The secret of acme alone. */
  readonly own = newSecret();
  /** The secret that globex and initech share. */
  readonly shared = newSecret();
  /** Every token that was signed here. */
  readonly signed: string[] = [];
  #started: Started | null = null;

  get at(): Started {
    if (this.#started === null) throw new Error("not started");
    return this.#started;
  }

  /** Signs a token, by default for acme's first account. */
  async sign(
    claims: Record<string, unknown>,
    secret = this.own,
    header: { alg?: string; kid?: string } = {},
  ): Promise<string> {
    const payload: JWTPayload = { aud: "acme", user_id: 1, secret_of_mine: marker, ...claims };
    const key = header.alg === "RS256" ? rsa.privateKey : Buffer.from(secret);
    const token = await new SignJWT(payload).setProtectedHeader({ alg: "HS256", ...header }).sign(key);
    this.signed.push(token);
    return token;
  }

  async start(): Promise<void> {
    const database = await createTenantDatabase("auth");
    const acme = await authTenant(database, "acme");
    const globex = await authTenant(database, "globex");
    const initech = await authTenant(database, "initech");
    const hooli = await authTenant(database, "hooli");
    const host = await TestHost.start({
      config: {
        // A single connection, so that anything a request leaves on it meets the next.
        databases: { main: { url: database.hostUrl, install: false, poolSize: 1 } },
        cells: { max: 1 },
        tenants: [
          { ...acme, jwt: { secret: this.own } },
          { ...globex, jwt: { secret: this.shared, clockTolerance: "30s" } },
          { ...initech, jwt: { secret: this.shared } },
          { ...hooli, jwt: { publicKey: pem } },
        ],
        pooling: true,
      },
      connected: database.connected,
    });
    this.#started = { database, host, acme, globex, initech, hooli };
  }

  async stop(): Promise<void> {
    const { host, database } = this.at;
    await host.stop();
    await dropRoles(database);
    await database.drop();
  }
}

/** To be called once, at the top of a test file. */
export function authHost(): AuthHost {
  const auth = new AuthHost();
  beforeAll(() => auth.start());
  afterAll(() => auth.stop());
  return auth;
}

export const now = (): number => Math.floor(Date.now() / 1_000);
