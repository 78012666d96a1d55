/** The demo: a database of small shops, one per tenant, and the tenants' records. */
import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { QuoteUtils } from "@pgsql/quotes";
import { z } from "zod";
import { installControl } from "../control/install.ts";
import type { Observe } from "../observability/observation.ts";
import { Database, type Queryable, type Transaction } from "../postgres/database.ts";
import { HostError } from "../shared/kernel/errors.ts";

export interface DemoOptions {
  /** Number of additional tenants of the first shape: `t0001`, `t0002`, … */
  readonly tenants: number;
  /** Created if it does not exist. */
  readonly database?: string;
  readonly observe: Observe;
}

export interface Demo {
  /**
   * Connects as the host's own role, which is no superuser and sees a tenant's rows only as one of that
   * tenant's roles.
   */
  readonly url: string;
  /** In the form of a configuration. */
  readonly tenants: readonly DemoTenant[];
}

export interface DemoTenant {
  readonly id: string;
  readonly hosts: readonly string[];
  readonly schemas: { readonly app: string };
  readonly roles: { readonly anonymous: string; readonly authenticated: string };
  readonly jwt: { readonly secret: string };
}

/** Every demo customer's password. */
export const demoPassword = "rowhouse";

const hostRole = "rowhouse_demo";

/** An extra script to run after shop.sql, for some tenants. */
const named: Readonly<Record<string, string | null>> = {
  acme: null,
  globex: null,
  initech: null,
  umbrella: null,
  hooli: "hooli.sql",
  stark: "stark.sql",
};

/**
 * Seeds the demo into the server of `adminUrl` (a superuser's). Anything that already exists is left
 * unchanged, data included.
 */
export async function seedDemo(adminUrl: string, options: DemoOptions): Promise<Demo> {
  const { database: name = "demo", observe, tenants: more } = options;
  if (!Number.isInteger(more) || more < 0 || more > 9_999) {
    throw new HostError("CONFIG_INVALID", "the number of demo tenants must be from 0 to 9999");
  }
  const ids = [...Object.keys(named)];
  for (let ordinal = 1; ordinal <= more; ordinal++) ids.push(`t${String(ordinal).padStart(4, "0")}`);
  const url = new URL(adminUrl);
  // Derived, so that it is stored nowhere and is the same at every start: hosts can share the server, and
  // tokens stay valid.
  const key = decodeURIComponent(url.password);
  const secretFor = (name: string): string => createHmac("sha256", key).update(name).digest("base64url");
  const password = secretFor(hostRole);

  const server = new Database({ name: "demo", url: url.href, applicationName: "rowhouse:demo", observe });
  try {
    // Roles belong to the whole server, so concurrent seeding of other databases has to wait.
    await server.transaction(async (transaction) => {
      await transaction.query("select pg_advisory_xact_lock(hashtextextended('rowhouse.demo', 0))");
      await createDatabase(server, name);
      url.pathname = `/${encodeURIComponent(name)}`;
      await seed(url.href, ids, password, observe);
    });
  } finally {
    await server.close();
  }
  url.username = hostRole;
  url.password = password;
  return { url: url.href, tenants: ids.map((id) => record(id, secretFor(`tokens of ${id}`))) };
}

function record(id: string, secret: string): DemoTenant {
  const { schema, anonymous, user } = identifiers(id);
  return {
    id,
    hosts: [`${id}.localhost`],
    schemas: { app: schema },
    roles: { anonymous, authenticated: user },
    jwt: { secret },
  };
}

function identifiers(id: string) {
  return {
    schema: `${id}_app`,
    private: `${id}_private`,
    owner: `${id}_owner`,
    anonymous: `${id}_anonymous`,
    user: `${id}_user`,
    host: hostRole,
  };
}

async function createDatabase(server: Queryable, name: string): Promise<void> {
  const { rows } = await server.query("select from pg_catalog.pg_database where datname = $1", [name]);
  if (rows.length === 0) await server.query(`create database ${QuoteUtils.quoteIdentifier(name)}`);
}

async function seed(url: string, ids: readonly string[], password: string, observe: Observe): Promise<void> {
  const connections = 3;
  const database = new Database({
    name: "demo",
    url,
    applicationName: "rowhouse:demo",
    observe,
    maxConnections: connections,
  });
  try {
    await installControl(database, observe);
    await database.transaction((transaction) => prepare(transaction, password));
    const { rows } = await database.query(
      "select nspname as name from pg_catalog.pg_namespace where nspname = any($1)",
      [ids.map((id) => identifiers(id).schema)],
    );
    const present = new Set(
      z
        .array(z.object({ name: z.string() }))
        .parse(rows)
        .map((row) => row.name),
    );
    const absent = ids.filter((id) => !present.has(identifiers(id).schema));
    if (absent.length === 0) return;
    const scripts = await readScripts();
    const hash = await hashPassword(database);
    await Promise.all(
      Array.from({ length: connections }, async () => {
        for (let id = absent.shift(); id !== undefined; id = absent.shift()) {
          const tenant = id;
          await database.transaction((transaction) => createShop(transaction, tenant, hash, scripts));
        }
      }),
    );
  } finally {
    await database.close();
  }
}

async function prepare(transaction: Transaction, password: string): Promise<void> {
  await transaction.query("select set_config('demo.password', $1, true)", [password]);
  await transaction.execute(await readSql("host.sql"));
}

async function createShop(
  transaction: Transaction,
  id: string,
  passwordHash: string,
  scripts: ReadonlyMap<string, string>,
): Promise<void> {
  const label = id.charAt(0).toUpperCase() + id.slice(1);
  const words: Readonly<Record<string, string>> = identifiers(id);
  const settings = { ...words, id, label, password_hash: passwordHash };
  await transaction.query("select set_config('demo.' || key, value, true) from json_each_text($1::json)", [
    JSON.stringify(settings),
  ]);
  for (const file of ["shop.sql", named[id] ?? null]) {
    const script = file === null ? "" : (scripts.get(file) ?? "");
    await transaction.execute(
      script.replace(/(^|[^:\w]):(\w+)/g, (whole, before: string, word: string) =>
        words[word] === undefined ? whole : `${before}${QuoteUtils.quoteIdentifier(words[word])}`,
      ),
    );
  }
  // As a superuser: the shop's owner may not call it.
  await transaction.query("reset role");
  await transaction.query(
    `select rowhouse.watch(format('%I.%I', $1::text, name)::regclass)
     from unnest(array['customers', 'products', 'orders', 'order_items']) name`,
    [words["schema"]],
  );
}

/** Hashed once for all shops: bcrypt takes longer than creating a shop. */
async function hashPassword(database: Queryable): Promise<string> {
  const { rows } = await database.query("select extensions.crypt($1, extensions.gen_salt('bf', 8)) as hash", [
    demoPassword,
  ]);
  return z.object({ hash: z.string() }).parse(rows[0]).hash;
}

async function readScripts(): Promise<Map<string, string>> {
  const files = ["shop.sql", ...Object.values(named).filter((file) => file !== null)];
  return new Map(
    await Promise.all(files.map(async (file): Promise<[string, string]> => [file, await readSql(file)])),
  );
}

const readSql = (file: string): Promise<string> => readFile(new URL(file, import.meta.url), "utf8");
