/** The suite's databases: unchanged, and with every schema renamed. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { installControl } from "../../src/control/install.ts";
import { Database } from "../../src/postgres/database.ts";

/** In the order in which the suite runs them. */
const files = [
  "kitchen-sink-schema.sql",
  "kitchen-sink-permissions.sql",
  "kitchen-sink-data.sql",
  "pg11-schema.sql",
  "pg11-data.sql",
];
const dataFiles = ["kitchen-sink-data.sql", "pg11-data.sql"];

const authenticator = "postgraphile_test_authenticator";
export const visitor = "postgraphile_test_visitor";

const roles = `
create role ${authenticator} noinherit login password 'testpassword';
create role ${visitor} noinherit;
create role postgraphile_test_user1;
create role postgraphile_test_user2;
grant ${visitor} to postgraphile_test_user1, postgraphile_test_user2;
grant postgraphile_test_user1, postgraphile_test_user2 to ${authenticator};`;

/** What an earlier suite of the repository leaves in the database. */
const prelude = `create extension citext; create extension pgcrypto; create extension "uuid-ossp"`;

/** The host's rights, granted after the control schema exists, because the suite revokes the default rights on functions. */
const controlRights = `
grant usage on schema rowhouse to ${authenticator};
grant select on all tables in schema rowhouse to ${authenticator};
grant execute on all functions in schema rowhouse to ${authenticator};`;

export interface SuiteDatabase {
  /** Connects as superuser; `authenticatorUrl` as the role that introspects for documents about rights. */
  readonly url: string;
  readonly authenticatorUrl: string;
  /** The PostgreSQL name of a schema of the suite. */
  physical(schema: string): string;
  /** Restores the suite's rows, and runs `sql`. */
  reset(sql?: string): Promise<void>;
  close(): Promise<void>;
}

export class Suite {
  readonly #url: string;
  readonly #texts: ReadonlyMap<string, string>;
  readonly #schemas: readonly string[];
  readonly #all: string;
  #made = 0;

  private constructor(url: string, texts: ReadonlyMap<string, string>) {
    this.#url = url;
    this.#texts = texts;
    this.#all = [...texts.values()].join("\n");
    this.#schemas = [...this.#all.matchAll(/^create schema ([a-z0-9_]+)/gm)].map(([, name = ""]) => name);
  }

  /** Reads the suite at `directory`, and creates its roles in the server at `url`. */
  static async open(directory: string, url: string): Promise<Suite> {
    const texts = await Promise.all(
      files.map(async (file) => [file, await readFile(join(directory, file), "utf8")] as const),
    );
    const suite = new Suite(url, new Map(texts));
    await runSql(url, roles);
    for (const renamed of [false, true]) await suite.#template(renamed);
    return suite;
  }

  async #template(renamed: boolean): Promise<void> {
    const name = templateOf(renamed);
    await runSql(this.#url, `create database ${name}`);
    await runSql(this.#url, `alter database ${name} set timezone to '+04:00'`);
    const url = this.#urlOf(name);
    await runSql(url, prelude);
    // A row and a variable contain these names. The schemas are empty, so code that mistakes a logical name for a physical one
    // finds nothing.
    if (renamed) await runSql(url, "create schema b; create schema c; create schema pg11");
    for (const file of files) await runSql(url, this.#sql(this.#texts.get(file) ?? "", renamed));
    const database = new Database({
      name,
      url,
      applicationName: "rowhouse:conformance",
      observe: () => undefined,
    });
    await installControl(database, () => undefined);
    await database.close();
    await runSql(url, controlRights);
  }

  /** A fresh copy of the database. */
  async database(renamed: boolean): Promise<SuiteDatabase> {
    this.#made += 1;
    const name = `conformance_${this.#made}`;
    await runSql(this.#url, `create database ${name} template ${templateOf(renamed)}`);
    await runSql(this.#url, `alter database ${name} set timezone to '+04:00'`);
    const url = this.#urlOf(name);
    const client = new pg.Client({ connectionString: url });
    // If a run ends early, the server cuts this connection; the original error must stay visible.
    client.on("error", () => {});
    await client.connect();
    const as = new URL(url);
    as.username = authenticator;
    as.password = "testpassword";
    return {
      url,
      authenticatorUrl: as.href,
      physical: (schema) => (renamed ? renamedTo(schema) : schema),
      reset: async (sql = "") => {
        for (const file of dataFiles) await client.query(this.#sql(this.#texts.get(file) ?? "", renamed));
        if (sql !== "") await client.query(this.#sql(sql, renamed));
      },
      close: () => client.end(),
    };
  }

  #urlOf(name: string): string {
    const url = new URL(this.#url);
    url.pathname = `/${name}`;
    return url.href;
  }

  #sql(text: string, renamed: boolean): string {
    return renamed ? renamedSql(text, this.#schemas, this.#all) : text;
  }
}

const templateOf = (renamed: boolean): string => (renamed ? "suite_renamed" : "suite");
const renamedTo = (schema: string): string => `r_${schema}`;

/** Matches the names of declared objects: a word before a dot may also be an alias. */
const declared =
  /\b(?:table|view|function|procedure|type|domain|sequence)\s+(?:if (?:not )?exists\s+)?"?([\w$]+)"?\."?([\w$\u0080-\uffff]+)/gi;

/** The suite's SQL with renamed schemas. Tags in comments keep the original names, which then are the logical ones. */
function renamedSql(text: string, schemas: readonly string[], all: string): string {
  const names = schemas.join("|");
  const alike = new Set<string>();
  for (const [, schema, object] of all.matchAll(declared)) alike.add(`${schema}.${object}`);
  const qualified = new RegExp(`(?<![\\w$.@])("?)(${names})\\1\\.("?)([\\w$\\u0080-\\uffff]+)`, "g");
  const listed = new RegExp(
    `\\bschema\\s+(?:if exists\\s+)?(?:${names})\\b(?:\\s*,\\s*(?:${names})\\b)*`,
    "gi",
  );
  const name = new RegExp(`\\b(?:${names})\\b`, "g");
  const renamed = (sql: string): string =>
    sql
      .replace(qualified, (written, quote: string, schema: string, other: string, object: string) =>
        alike.has(`${schema}.${object}`) ? `${quote}${renamedTo(schema)}${quote}.${other}${object}` : written,
      )
      .replace(listed, (list) => list.replace(name, renamedTo));
  return statementsOf(text)
    .map((statement) => {
      const [, head, comment] = /^([^']*?\bcomment on [^']*?\sis\s)([\s\S]*)$/i.exec(statement) ?? [];
      return head === undefined || comment === undefined ? renamed(statement) : renamed(head) + comment;
    })
    .join("");
}

/** Splits `sql` after semicolons at line ends outside function bodies; the parts, joined, are `sql` again. */
function statementsOf(sql: string): string[] {
  const statements: string[] = [];
  let current = "";
  let body: string | null = null;
  for (const line of sql.split(/(?<=\n)/)) {
    current += line;
    for (const [tag] of line.matchAll(/\$\w*\$/g)) {
      if (body === null) body = tag;
      else if (body === tag) body = null;
    }
    if (body === null && /;\s*$/.test(line)) {
      statements.push(current);
      current = "";
    }
  }
  return [...statements, current];
}

async function runSql(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  // If a run ends early, the server cuts this connection; the original error must stay visible.
  client.on("error", () => {});
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
