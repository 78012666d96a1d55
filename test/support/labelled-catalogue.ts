/** A catalogue by names instead of oids, so that what two tenants' builds are shown can be compared. */

type Row = Readonly<Record<string, unknown>>;
type Lists = Readonly<Record<string, readonly Row[]>>;

const namedBy: Readonly<Record<string, readonly [namespace: string, name: string]>> = {
  namespaces: ["", "nspname"],
  classes: ["relnamespace", "relname"],
  types: ["typnamespace", "typname"],
  procs: ["pronamespace", "proname"],
  constraints: ["conrelid", "conname"],
  extensions: ["", "extname"],
  roles: ["", "rolname"],
};

/** Rows of these are found by an oid, not by their place in the list. */
const unordered = new Set([
  "attributes",
  "constraints",
  "enums",
  "ranges",
  "inherits",
  "indexes",
  "descriptions",
  "depends",
]);

/** Its lists as JSON: rows are named, and numbered by their place where only that matters, as of columns and labels of enums. */
export function labelledCatalogue(introspection: string): readonly string[] {
  const lists: Lists = JSON.parse(introspection);
  const labels = labelsOf(lists);
  // An array of a shared schema's type, for one, is not in scope.
  const label = (oid: unknown): unknown =>
    labels.get(String(oid)) ?? (/^[1-9]\d{4,}$/.test(String(oid)) && Number(oid) >= 16_384 ? "#" : oid);
  const places = placesOf(lists);
  const named = ([column, value]: [string, unknown]): [string, unknown] => {
    if (column === "proargtypes" && typeof value === "string") return [column, value.split(" ").map(label)];
    if (Array.isArray(value)) return [column, value.map(label)];
    return [column, label(value)];
  };
  const rowOf = (list: string, row: Row): Row => ({
    ...Object.fromEntries(Object.entries(row).map(named)),
    ...places(list, row),
  });
  return Object.entries(lists).flatMap(([list, rows]) => {
    if (!Array.isArray(rows)) return [];
    // Types of pg_catalog are the same for all tenants of a database, and nothing goes through them.
    const own =
      list === "types" ? rows.filter((row: Row) => label(row["typnamespace"]) !== ".pg_catalog") : rows;
    const renamed = own.map((row: Row) => `${list} ${JSON.stringify(rowOf(list, row))}`);
    return unordered.has(list) ? renamed.toSorted() : renamed;
  });
}

function labelsOf(lists: Lists): ReadonlyMap<string, string> {
  const labels = new Map<string, string>();
  for (const [list, [namespace, name]] of Object.entries(namedBy)) {
    for (const row of lists[list] ?? []) {
      const within = labels.get(String(row[namespace])) ?? "";
      const call = list === "procs" ? `(${argumentsOf(row, labels)})` : "";
      labels.set(
        String(row["_id"]),
        `${list === "types" ? "type " : ""}${within}.${String(row[name])}${call}`,
      );
    }
  }
  return labels;
}

function argumentsOf({ proargtypes }: Row, labels: ReadonlyMap<string, string>): string {
  const oids: readonly unknown[] = Array.isArray(proargtypes) ? proargtypes : String(proargtypes).split(" ");
  return oids.map((oid) => labels.get(String(oid)) ?? String(oid)).join(", ");
}

/** Numbers of columns have gaps where columns were dropped, and labels of enums are numbered as they were added. */
function placesOf(lists: Lists): (list: string, row: Row) => Row {
  const columns = new Map<string, number>();
  const counts = new Map<unknown, number>();
  for (const { attrelid, attnum } of lists["attributes"] ?? []) {
    const place = (counts.get(attrelid) ?? 0) + 1;
    counts.set(attrelid, place);
    columns.set(`${String(attrelid)}.${String(attnum)}`, place);
  }
  const at = (relation: unknown, numbers: unknown): unknown =>
    Array.isArray(numbers)
      ? numbers.map((number) => columns.get(`${String(relation)}.${String(number)}`))
      : numbers;
  return (list, row) => {
    if (list === "attributes") return { attnum: at(row["attrelid"], [row["attnum"]]) };
    if (list === "constraints") {
      return { conkey: at(row["conrelid"], row["conkey"]), confkey: at(row["confrelid"], row["confkey"]) };
    }
    if (list === "indexes") return { indkey: at(row["indrelid"], row["indkey"]) };
    if (list === "descriptions") {
      const isColumn = Number(row["objsubid"]) > 0;
      return isColumn ? { objsubid: at(row["objoid"], [row["objsubid"]]) } : {};
    }
    if (list === "enums") {
      const { enumtypid, enumsortorder } = row;
      const before = (lists["enums"] ?? []).filter(
        (other) => other["enumtypid"] === enumtypid && Number(other["enumsortorder"]) < Number(enumsortorder),
      );
      return { _id: null, enumsortorder: before.length };
    }
    return {};
  };
}
