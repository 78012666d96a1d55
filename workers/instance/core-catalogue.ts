/**
 * The catalogue without what the core shape does not cover: tenants of one core shape are alike in all that is left, so that a build cannot
 * tell them apart, whatever reads it.
 */
import { HostError } from "../../src/shared/kernel/errors.ts";
import { CorePrivileges } from "./core-privileges.ts";

type Row = Readonly<Record<string, unknown>>;

interface Catalogue {
  readonly rows: (name: string) => readonly Row[];
  /** The names of the system catalogues by oid. */
  readonly catalogues: object;
  readonly currentUser: string;
}

/**
 * The columns that are kept, by the lists of the introspection: each is in a line of the core shape (`src/shape/canonical.ts`), tells rows
 * apart by oid, or is the same for all tenants of a database. `core` below gives neutral values to a few more that a build asks for.
 */
export const keptColumns = {
  namespaces: ["_id", "nspname"],
  classes: [
    "_id",
    "relname",
    "relnamespace",
    "relkind",
    "relpersistence",
    "relispartition",
    "updatable_mask",
    "reltype",
    "reloftype",
  ],
  attributes: [
    "attrelid",
    "attname",
    "attnum",
    "atttypid",
    "attnotnull",
    "attidentity",
    "attislocal",
    "attisdropped",
  ],
  constraints: [
    "_id",
    "conname",
    "connamespace",
    "contype",
    "conrelid",
    "conkey",
    "confrelid",
    "confkey",
    "connoinherit",
  ],
  procs: [
    "_id",
    "proname",
    "pronamespace",
    "prokind",
    "pronargs",
    "proargtypes",
    "proallargtypes",
    "proargmodes",
    "proargnames",
    "pronargdefaults",
    "provariadic",
    "prorettype",
    "proretset",
    "provolatile",
    "proisstrict",
  ],
  types: [
    "_id",
    "typname",
    "typnamespace",
    "typtype",
    "typcategory",
    "typnotnull",
    "typdelim",
    "typbasetype",
    "typelem",
    "typrelid",
    "typarray",
  ],
  enums: ["_id", "enumtypid", "enumsortorder", "enumlabel"],
  ranges: ["rngtypid", "rngsubtype"],
  inherits: ["inhrelid", "inhparent", "inhseqno"],
  extensions: ["_id", "extname", "extnamespace"],
  depends: ["classid", "objid", "objsubid", "refclassid", "refobjid", "refobjsubid", "deptype"],
  descriptions: ["classoid", "objoid", "objsubid", "description"],
} as const;

type ListName = keyof typeof keptColumns;

/**
 * The introspection in which constraints and indexes have only what builds of the known plugins read, nothing says what PostgreSQL alone
 * enforces, and privileges are those of the connecting role. `canonicalCtes` (src/shape/canonical.ts) hashes what is left of it as the core
 * shape. Throws `BUILD_FAILED` if it is malformed.
 */
export function coreCatalogue(introspection: string): string {
  const parsed: unknown = JSON.parse(introspection);
  if (typeof parsed !== "object" || parsed === null || !("current_user" in parsed)) {
    throw new HostError("BUILD_FAILED", "the introspection is no object");
  }
  const catalogues: unknown = Reflect.get(parsed, "catalog_by_oid");
  if (typeof catalogues !== "object" || catalogues === null) {
    throw new HostError("BUILD_FAILED", "the introspection does not name the catalogues");
  }
  const catalogue: Catalogue = {
    rows: (name) => rowsOf(parsed, name),
    catalogues,
    currentUser: String(parsed.current_user),
  };
  return JSON.stringify({ ...parsed, ...core(catalogue) });
}

function rowsOf(parsed: object, name: string): readonly Row[] {
  const rows: unknown = Reflect.get(parsed, name);
  if (!Array.isArray(rows)) throw new HostError("BUILD_FAILED", `the introspection has no ${name}`);
  return rows;
}

/** The rows with their kept columns only, and for each row those that `neutral` returns. */
function reduced(
  name: ListName,
  rows: readonly Row[],
  neutral: (row: Row) => Row = () => ({}),
): readonly Row[] {
  return rows.map((row) => {
    const kept: Record<string, unknown> = {};
    for (const column of keptColumns[name]) if (column in row) kept[column] = row[column];
    return { ...kept, ...neutral(row) };
  });
}

function core({ rows, catalogues, currentUser }: Catalogue): Readonly<Record<string, unknown>> {
  const privileges = new CorePrivileges(rows, currentUser);
  const constraints = rows("constraints").filter((row) => ["p", "u", "f"].includes(String(row["contype"])));
  // The shape says nothing of sequences, and of indexes only what `coveringIndexes` returns.
  const classes = rows("classes").filter((row) => !["i", "I", "S"].includes(String(row["relkind"])));
  // A column's number differs between tenants where columns were dropped, and is used for order and for look-ups only.
  const attributes = rows("attributes").filter((row) => row["attisdropped"] !== true);
  const isClass = new Set(classes.map((row) => row["_id"]));
  const types = usedTypes(rows);
  const isUsed = new Set(types.map((row) => row["_id"]));
  const lists = { pg_class: classes, pg_type: types, pg_proc: rows("procs") };
  const isMember = keptObjects(catalogues, lists);
  const isDescribed = keptObjects(catalogues, { ...lists, pg_constraint: constraints });
  const mayBeRequired = requirement(rows, catalogues);
  return {
    database: {},
    namespaces: reduced("namespaces", rows("namespaces")),
    // Owned by nobody, as pg-introspection gives an owner without an entry every privilege.
    classes: reduced("classes", classes, (row) => ({ relowner: "0", relacl: privileges.ofRelation(row) })),
    attributes: reduced("attributes", attributes, (row) => ({
      attacl: privileges.ofColumn(row),
      atthasdef: (row["atthasdef"] === true || isGenerated(row)) && mayBeRequired(row),
      attgenerated: "",
      atttypmod: -1,
    })),
    types: reduced("types", types, ({ typdefault }) => ({
      typdefault: typdefault === null ? null : "",
      typtypmod: -1,
    })),
    enums: reduced(
      "enums",
      rows("enums").filter((row) => isUsed.has(row["enumtypid"])),
    ),
    procs: reduced("procs", rows("procs"), (row) => ({ proowner: "0", proacl: privileges.ofFunction(row) })),
    constraints: reduced("constraints", constraints),
    indexes: coveringIndexes(rows("indexes"), repeating(constraints)),
    ranges: reduced("ranges", rows("ranges")),
    // Indexes of partitions inherit as well.
    inherits: reduced(
      "inherits",
      rows("inherits").filter((row) => isClass.has(row["inhrelid"])),
    ),
    extensions: reduced("extensions", rows("extensions")),
    // What it may do is said where it may do it.
    roles: rows("roles")
      .filter(({ rolname }) => rolname === currentUser)
      .map(({ _id }) => ({ _id, rolname: currentUser, rolsuper: false, rolinherit: true })),
    auth_members: [],
    policies: [],
    descriptions: reduced(
      "descriptions",
      rows("descriptions").filter((row) => isDescribed(row["classoid"], row["objoid"])),
    ),
    depends: reduced(
      "depends",
      rows("depends").filter((row) => row["deptype"] === "e" && isMember(row["classid"], row["objid"])),
    ),
  };
}

/** All types but enums and domains that no column, function or other type is made of, and the arrays of those. */
function usedTypes(rows: Catalogue["rows"]): readonly Row[] {
  const used = new Set<unknown>([
    ...rows("attributes").map((row) => row["atttypid"]),
    ...rows("procs").flatMap((row) =>
      [row["prorettype"], row["provariadic"], row["proargtypes"], row["proallargtypes"]].flatMap(oidsOf),
    ),
    ...rows("types").map((row) => row["typbasetype"]),
    ...rows("ranges").map((row) => row["rngsubtype"]),
  ]);
  const unused = new Set(
    rows("types").flatMap(({ _id, typarray, typtype }) =>
      ["e", "d"].includes(String(typtype)) && ![_id, typarray].some((oid) => oid === "0" || used.has(oid))
        ? [_id, typarray]
        : [],
    ),
  );
  return rows("types").filter((row) => !unused.has(row["_id"]));
}

/** An oidvector may be written as text. */
function oidsOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value.map(String);
  return typeof value === "string" ? value.split(" ") : [];
}

const isGenerated = ({ attgenerated }: Row): boolean =>
  typeof attgenerated === "string" && attgenerated !== "";

/** Tells whether a column's value may be required: by the column, its type, or a smart tag. */
function requirement(rows: Catalogue["rows"], catalogues: object): (column: Row) => boolean {
  const names = new Map(Object.entries(catalogues));
  const notNull = new Set(rows("types").flatMap((row) => (row["typnotnull"] === true ? [row["_id"]] : [])));
  const commented = new Set(
    rows("descriptions").flatMap(({ classoid, objoid }) =>
      ["pg_class", "pg_type"].includes(names.get(String(classoid))) ? [objoid] : [],
    ),
  );
  const byTag = new Set(
    rows("classes").flatMap(({ _id, reltype }) =>
      commented.has(_id) || commented.has(reltype) ? [_id] : [],
    ),
  );
  return ({ attnotnull, atttypid, attrelid }) =>
    attnotnull === true || notNull.has(atttypid) || byTag.has(attrelid);
}

/** Tells whether an object is among `lists`, which are by the name of its catalogue. */
function keptObjects(
  catalogues: object,
  lists: Readonly<Record<string, readonly Row[]>>,
): (catalogue: unknown, oid: unknown) => boolean {
  const kept = new Map<unknown, ReadonlySet<unknown>>(
    Object.entries(catalogues).map(([oid, name]) => [
      oid,
      new Set(Object.hasOwn(lists, String(name)) ? lists[String(name)]?.map((row) => row["_id"]) : []),
    ]),
  );
  return (catalogue, oid) => kept.get(catalogue)?.has(oid) === true;
}

/** The tables with a foreign key that names a column twice. */
function repeating(constraints: readonly Row[]): ReadonlySet<unknown> {
  const tables = new Set<unknown>();
  for (const { contype, conrelid, conkey } of constraints) {
    if (contype !== "f") continue;
    const columns = numbersOf(conkey);
    if (new Set(columns).size < columns.length) tables.add(conrelid);
  }
  return tables;
}

/**
 * One row for each set of columns of a table that an index covers. For tables in `repeating` that index has as many entries as the real one:
 * a key that names a column twice counts as indexed only by one with as many.
 */
function coveringIndexes(indexes: readonly Row[], repeating: ReadonlySet<unknown>): readonly Row[] {
  const sets = new Map<string, Row>();
  for (const row of indexes) {
    if (row["indpred"] !== null) continue;
    const all = numbersOf(row["indkey"]);
    const columns = [...new Set(all)].filter((each) => each !== 0);
    if (columns.length === 0) continue;
    const { indrelid } = row;
    const others = repeating.has(indrelid) ? all.length - columns.length : 0;
    const indkey = [...columns.toSorted((a, b) => a - b), ...Array.from({ length: others }, () => 0)];
    sets.set(JSON.stringify([indrelid, indkey]), { indrelid, indkey, indpred: null });
  }
  return [...sets].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
}

function numbersOf(value: unknown): readonly number[] {
  const listed: unknown = typeof value === "string" ? value.split(" ") : value;
  if (!Array.isArray(listed)) throw new HostError("BUILD_FAILED", "an index or a foreign key has no columns");
  return listed.map(Number);
}
