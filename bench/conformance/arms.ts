/** The arms that answer the suite's documents: stock PostGraphile, and hosts as a user starts them. */
import { setTimeout as sleep } from "node:timers/promises";
import { SignJWT } from "jose";
import pg from "pg";
import { makeSchema } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafast } from "postgraphile/grafast";
import type { Payloads } from "./answers.ts";
import { type SuiteDatabase, visitor } from "./databases.ts";
import { type StartedHost, startHost } from "./host.ts";
import { presetFor } from "./preset.ts";
import type { Document } from "./suite.ts";

export interface Arm {
  answer(document: Document): Promise<Payloads>;
  /** The kind of the instance that answers `document`, if there is more than one kind. */
  kind(document: Document): Promise<string>;
  close(): Promise<void>;
}

const secret = "This is static for the tests, use a better one if you set one!";

/** A key for each distinct instance that documents need. */
const variantOf = ({ options, schemas }: Document): string => JSON.stringify([schemas, options]);

const isAboutRights = ({ directives }: Document): boolean => directives.ignoreRBAC === false;

/** Stock PostGraphile on `database`. */
export function stockArm(database: SuiteDatabase): Arm {
  const pool = new pg.Pool({ connectionString: database.url });
  let current: { readonly variant: string; readonly built: ReturnType<typeof makeSchema> } | null = null;
  const built = (document: Document): ReturnType<typeof makeSchema> => {
    const variant = variantOf(document);
    if (current?.variant === variant) return current.built;
    const build = async () => {
      const { jwtSecret, search_path: path, pgIdentifiers } = document.directives;
      const options = {
        ...document.options,
        directives: { ...document.options.directives, ...(jwtSecret === true ? { jwtSecret: secret } : {}) },
      };
      const rights = isAboutRights(document);
      const service = makePgService({
        pool,
        schemas: [...document.schemas],
        ...(rights ? { pgSettingsForIntrospection: { role: "postgraphile_test_authenticator" } } : {}),
        pgSettings: () => ({
          ...(rights ? { role: visitor, "jwt.claims.user_id": "3" } : {}),
          ...(path === undefined ? {} : { search_path: path }),
        }),
      });
      return makeSchema({
        extends: [await presetFor(JSON.stringify(options))],
        pgServices: [service],
        ...(pgIdentifiers === undefined ? {} : { gather: { pgIdentifiers } }),
      });
    };
    current = { variant, built: build() };
    return current.built;
  };
  return {
    async answer(document) {
      const { schema, resolvedPreset } = await built(document);
      const result = await grafast({
        schema,
        resolvedPreset,
        source: document.source,
        variableValues: document.directives.variableValues ?? null,
        requestContext: {},
      });
      if (!(Symbol.asyncIterator in result)) return [JSON.parse(JSON.stringify(result))];
      const payloads: unknown[] = [];
      for await (const each of result) payloads.push(JSON.parse(JSON.stringify(each)));
      return payloads;
    },
    kind: async () => "stock",
    close: () => pool.end(),
  };
}

/** A host on `database` with a tenant for each instance that `documents` need. */
export async function hostArm(
  database: SuiteDatabase,
  documents: readonly Document[],
  pooling: boolean,
): Promise<Arm> {
  const ids = new Map<string, string>();
  const tenants = documents.flatMap((document) => {
    const variant = variantOf(document);
    if (ids.has(variant)) return [];
    const id = `v${ids.size + 1}`;
    ids.set(variant, id);
    return [tenantFor(document, id, database)];
  });
  const host: StartedHost = await startHost({
    pooling,
    databases: {
      main: { url: database.url, install: false },
      rights: { url: database.authenticatorUrl, install: false },
    },
    tenants,
    preset: new URL("preset.ts", import.meta.url).href,
  });
  const idOf = (document: Document): string => ids.get(variantOf(document)) ?? "none";
  return {
    async answer(document) {
      const headers: Record<string, string> = {
        "content-type": "application/json",
        accept: "application/json, multipart/mixed;q=0.9",
        "x-tenant": idOf(document),
      };
      if (isAboutRights(document)) headers["authorization"] = `Bearer ${await token(idOf(document))}`;
      const body = JSON.stringify({
        query: withPhysicalReg(document.source, database),
        ...(document.directives.variableValues === undefined
          ? {}
          : { variables: document.directives.variableValues }),
      });
      for (let attempt = 1; ; attempt += 1) {
        const answer = await fetch(`${host.publicUrl}/graphql`, { method: "POST", headers, body });
        const text = await answer.text();
        if (answer.status !== 503 || attempt > 20) return payloadsOf(text);
        await sleep(500);
      }
    },
    async kind(document) {
      const answer: unknown = await (await fetch(`${host.adminUrl}/tenants/${idOf(document)}`)).json();
      const { kind, reason } = Object(answer);
      return reason === undefined ? String(kind) : `${kind}: ${reason}`;
    },
    close: () => host.close(),
  };
}

/** Replaces schema names in `reg*` literals, which refer to objects by their PostgreSQL names. */
function withPhysicalReg(source: string, { physical }: SuiteDatabase): string {
  return source.replace(
    /(\breg[a-z]+: ")(\w+)\./g,
    (_, before: string, schema: string) => `${before}${physical(schema)}.`,
  );
}

function tenantFor(document: Document, id: string, database: SuiteDatabase): object {
  const rights = isAboutRights(document);
  return {
    id,
    database: rights ? "rights" : "main",
    schemas: document.schemas.map((logical) => ({ logical, physical: database.physical(logical) })),
    settings: { options: JSON.stringify(document.options) },
    ...(rights ? { roles: { anonymous: visitor, authenticated: visitor } } : {}),
    ...(rights || document.directives.jwtSecret === true ? { jwt: { secret } } : {}),
  };
}

async function token(tenant: string): Promise<string> {
  return new SignJWT({ role: visitor, user_id: 3 })
    .setProtectedHeader({ alg: "HS256" })
    .setAudience(tenant)
    .setIssuedAt()
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(secret));
}

/** The payloads in a JSON text, or in a `multipart/mixed` body with grafserv's boundary. */
function payloadsOf(text: string): Payloads {
  if (text.startsWith("{")) return [JSON.parse(text)];
  return text
    .split(/^---?(?:--)?\r?$/m)
    .map((part) => part.slice(part.indexOf("{")).trim())
    .filter((part) => part.startsWith("{"))
    .map((part) => JSON.parse(part));
}
