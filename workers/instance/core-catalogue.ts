/**
 * The catalogue without what the core shape does not cover: tenants of one core shape are alike in all that is left, so that a build cannot
 * tell them apart, whatever reads it.
 */
import { HostError } from "../../src/shared/kernel/errors.ts";

type Row = Readonly<Record<string, unknown>>;

interface Catalogue {
  readonly rows: (name: string) => readonly Row[];
  /** The names of the system catalogues by oid. */
  readonly catalogues: object;
  readonly currentUser: string;
}

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

const asRow = (row: Row, columns: Row): Row => ({ ...row, ...columns });

function core({ rows, catalogues, currentUser }: Catalogue): Readonly<Record<string, readonly Row[]>> {
  const privileges = new Privileges(rows, currentUser);
  const constraints = rows("constraints").filter((row) => ["p", "u", "f"].includes(String(row["contype"])));
  const classes = rows("classes").filter((row) => !["i", "I"].includes(String(row["relkind"])));
  const types = usedTypes(rows);
  const isUsed = new Set(types.map((row) => row["_id"]));
  const kept = keptObjects(catalogues, {
    pg_class: classes,
    pg_constraint: constraints,
    pg_type: types,
    pg_proc: rows("procs"),
  });
  const mayBeRequired = requirement(rows, catalogues);
  return {
    namespaces: rows("namespaces").map((row) => asRow(row, { nspacl: null })),
    classes: classes.map((row) => asRow(row, { ...unenforced, relacl: privileges.ofRelation(row) })),
    attributes: rows("attributes").map((row) =>
      asRow(row, {
        attacl: privileges.ofColumn(row),
        atthasdef: (row["atthasdef"] === true || isGenerated(row)) && mayBeRequired(row),
        attgenerated: "",
        atttypmod: -1,
      }),
    ),
    types: types.map((row) => asRow(row, { typacl: null, typtypmod: -1 })),
    enums: rows("enums").filter((row) => isUsed.has(row["enumtypid"])),
    procs: rows("procs").map((row) =>
      asRow(row, { prosecdef: false, prolang: "14", proacl: privileges.ofFunction(row) }),
    ),
    constraints: constraints.map((row) => asRow(row, uncheckedConstraint)),
    indexes: coveringIndexes(rows("indexes")),
    policies: [],
    descriptions: rows("descriptions").filter((row) => kept(row["classoid"], row["objoid"])),
    depends: rows("depends").filter((row) => kept(row["classid"], row["objid"])),
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

const unenforced: Row = { relrowsecurity: false, relforcerowsecurity: false };

const uncheckedConstraint: Row = {
  condeferrable: false,
  condeferred: false,
  convalidated: true,
  conislocal: true,
  confupdtype: null,
  confdeltype: null,
  confmatchtype: null,
  conindid: "0",
  conbin: null,
};

/** One row for each set of columns of a table that an index covers. */
function coveringIndexes(indexes: readonly Row[]): readonly Row[] {
  const sets = new Map<string, Row>();
  for (const row of indexes) {
    if (row["indpred"] !== null) continue;
    const columns = [...new Set(numbersOf(row["indkey"]))].filter((each) => each !== 0);
    if (columns.length === 0) continue;
    const indkey = columns.toSorted((a, b) => a - b);
    const { indexrelid, indrelid } = row;
    sets.set(JSON.stringify([indrelid, indkey]), { indexrelid, indrelid, indkey, indpred: null });
  }
  return [...sets].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
}

function numbersOf(value: unknown): readonly number[] {
  const listed: unknown = typeof value === "string" ? value.split(" ") : value;
  if (!Array.isArray(listed)) throw new HostError("BUILD_FAILED", "an index has no columns");
  return listed.map(Number);
}

/** What the connecting role may do, resolved as pg-introspection does it. */
class Privileges {
  readonly #self: string;
  readonly #selfId: unknown;
  readonly #reachedIds = new Set<unknown>();
  /** The names of the connecting role and of those that it is a member of; PUBLIC's is empty. */
  readonly #reached: ReadonlySet<string>;
  readonly #isSuperuser: boolean;

  constructor(rows: Catalogue["rows"], currentUser: string) {
    const names = new Map(rows("roles").map((row) => [row["_id"], String(row["rolname"])]));
    this.#self = currentUser;
    this.#selfId = rows("roles").find((row) => row["rolname"] === currentUser)?.["_id"];
    const reached = this.#reachedIds.add(this.#selfId);
    for (let size = -1; size !== reached.size; ) {
      size = reached.size;
      for (const { member, roleid } of rows("auth_members")) if (reached.has(member)) reached.add(roleid);
    }
    this.#reached = new Set(["", ...[...reached].map((id) => names.get(id) ?? "")]);
    this.#isSuperuser = rows("roles").some((row) => row["rolsuper"] === true && reached.has(row["_id"]));
  }

  ofRelation({ relacl, relowner, relkind }: Row): readonly string[] | null {
    // The shape says nothing of sequences' rights.
    if (relkind === "S") return null;
    if (this.#isSuperuser) return this.#written(allOfTable);
    if (relacl === null) return this.#written(this.#reachedIds.has(relowner) ? allOfTable : "");
    return this.#written(this.#hasNoEntry(relacl, relowner) ? allOfTable : this.#letters(relacl));
  }

  ofColumn({ attacl }: Row): readonly string[] | null {
    return attacl === null ? null : this.#written(this.#letters(attacl));
  }

  /** Null, which means that everybody may execute it, or else nobody. */
  ofFunction({ proacl, proowner }: Row): readonly string[] | null {
    const may =
      this.#isSuperuser ||
      proacl === null ||
      this.#hasNoEntry(proacl, proowner) ||
      this.#letters(proacl).includes("X");
    return may ? null : [];
  }

  /** Whether it owns an object that has no entry for its owner: pg-introspection takes that for every privilege. */
  #hasNoEntry(acl: unknown, owner: unknown): boolean {
    return owner === this.#selfId && !entriesOf(acl).some(({ role }) => role === this.#self);
  }

  #letters(acl: unknown): string {
    const held = new Set(
      entriesOf(acl)
        .filter(({ role }) => this.#reached.has(role))
        .flatMap(({ letters }) => [...letters]),
    );
    return [...`${allOfTable}X`].filter((letter) => held.has(letter)).join("");
  }

  #written(letters: string): readonly string[] {
    const role = `"${this.#self.replaceAll('"', '""')}"`;
    return letters === "" ? [] : [`${role}=${letters}/${role}`];
  }
}

/** SELECT, INSERT, UPDATE and DELETE; nobody asks for others. */
const allOfTable = "rawd";

interface Entry {
  readonly role: string;
  /** Without whether they may be passed on. */
  readonly letters: string;
}

function entriesOf(acl: unknown): readonly Entry[] {
  if (!Array.isArray(acl)) throw new HostError("BUILD_FAILED", "an object's privileges are no list");
  return acl.map((item) => {
    const [, quoted, plain = "", letters] =
      /^(?:"((?:[^"]|"")*)"|([^"=]*))=([A-Za-z*]*)\//.exec(String(item)) ?? [];
    if (letters === undefined)
      throw new HostError("BUILD_FAILED", "an object's privileges are not understood");
    const role = quoted === undefined ? plain : quoted.replaceAll('""', '"');
    return { role, letters: letters.replaceAll("*", "") };
  });
}
