/** The control schema as an earlier version left it. */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import type { Database } from "../../src/postgres/database.ts";

const directory = new URL("../../src/control/sql/", import.meta.url);

/** Installs it up to `version`, without event triggers, as the role that `database` connects as. */
export async function installVersion(database: Database, version: number): Promise<void> {
  const names = (await readdir(directory)).filter((name) => /^\d{3}-/.test(name)).sort();
  await database.transaction(async (transaction) => {
    await transaction.execute(`
      create schema rowhouse;
      create table rowhouse.migration (
        version integer primary key, name text not null, checksum text not null,
        installed_at timestamptz not null default now()
      )`);
    for (const name of names) {
      const number = Number(name.slice(0, 3));
      if (number > version) break;
      const text = await readFile(new URL(name, directory), "utf8");
      await transaction.execute(text);
      await transaction.query(
        "insert into rowhouse.migration (version, name, checksum) values ($1, $2, $3)",
        [number, name, createHash("sha256").update(text).digest("hex")],
      );
    }
  });
}
