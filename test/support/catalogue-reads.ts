/** A record of what a build reads of the catalogue, taken by accessors in place of the properties of its rows. */
import type { Introspection } from "postgraphile/graphile-build-pg/pg-introspection";

type Row = Record<string, unknown>;

/** The lists of rows in the introspection, and the column that tells rows of one list apart where it matters what is read of which. */
const kinds: Readonly<Record<string, string | null>> = {
  namespaces: null,
  classes: "relkind",
  attributes: null,
  constraints: "contype",
  procs: null,
  roles: null,
  auth_members: null,
  types: null,
  enums: null,
  extensions: null,
  indexes: null,
  inherits: null,
  languages: null,
  policies: null,
  ranges: null,
  depends: null,
  descriptions: null,
  am: null,
};

const isRow = (value: unknown): value is Row => typeof value === "object" && value !== null;

/**
 * A plugin that adds to `reads` each property that is read of a row after the introspection is parsed, such as `constraints(f).conkey`;
 * spreading, listing or serialising a row reads all of it. Comments are told apart by what they are about: `comment(index)`. It must come
 * first. Parsing itself only joins rows by their oids and orders constraints by name.
 */
export function catalogueReads(reads: Set<string>): GraphileConfig.Plugin {
  return {
    name: "CatalogueReadsPlugin",
    version: "1.0.0",
    gather: {
      hooks: {
        pgIntrospection_introspection: {
          before: ["PgFakeConstraintsPlugin"],
          callback: (_info, { introspection }) => watch(introspection, reads),
        },
      },
    },
  };
}

function watch(introspection: Introspection, reads: Set<string>): void {
  const about = describedThings(introspection);
  const database: unknown = introspection.database;
  if (!isRow(database)) throw new Error("the introspection has no database");
  for (const property of Object.keys(database))
    observe(database, property, () => reads.add(`database.${property}`));
  for (const [name, column] of Object.entries(kinds)) {
    const rows: unknown = Reflect.get(introspection, name);
    if (!Array.isArray(rows)) throw new Error(`the introspection has no ${name}`);
    for (const row of rows.filter(isRow)) {
      const kind = name === "descriptions" ? `comment(${about(row)})` : name;
      const told = column === null ? kind : `${kind}(${String(row[column])})`;
      for (const property of Object.keys(row)) observe(row, property, () => reads.add(`${told}.${property}`));
    }
  }
}

function observe(row: Row, property: string, onRead: () => void): void {
  let value = row[property];
  Object.defineProperty(row, property, {
    configurable: true,
    enumerable: true,
    get() {
      onRead();
      return value;
    },
    set(next: unknown) {
      value = next;
    },
  });
}

/** Names what a comment is about, by its oid. */
function describedThings(introspection: Introspection): (row: Row) => string {
  const things = new Map<string, string>([
    ...introspection.namespaces.map(({ _id }) => [_id, "namespace"] as const),
    ...introspection.classes.map(
      ({ _id, relkind }) => [_id, /i/i.test(relkind) ? "index" : "class"] as const,
    ),
    ...introspection.constraints.map(({ _id, contype }) => [_id, `constraint ${contype}`] as const),
    ...introspection.procs.map(({ _id }) => [_id, "proc"] as const),
    ...introspection.types.map(({ _id }) => [_id, "type"] as const),
  ]);
  return (row) => things.get(String(row["objoid"])) ?? "other";
}
