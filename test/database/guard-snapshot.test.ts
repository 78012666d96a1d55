import { describe, expect, test } from "vitest";
import {
  assertRevisions,
  beginWrite,
  changed,
  guardDatabase,
  lockExclusively,
} from "../support/guard-database.ts";

const guard = guardDatabase();

describe.each(["repeatable read", "serializable"])("under %s", (level) => {
  test("a revision that has moved since the snapshot is a serialization failure", async () => {
    const writer = await guard.host();
    await writer.query(`begin isolation level ${level}`);
    await beginWrite(writer, [guard.before]);
    await writer.query("savepoint held");
    await assertRevisions(writer, [guard.before]);
    await writer.query("rollback to held; select 1");
    await writer.query("commit");

    await writer.query(`begin isolation level ${level}`);
    await writer.query("select 1");
    await guard.test.execute(`alter table shop.item add column c_${level.slice(0, 6)} int`);
    await expect(assertRevisions(writer, [guard.before])).rejects.toMatchObject({ code: "40001" });
    await writer.query("rollback");
  });

  test("so is a revision that moved while the write waited for a migration", async () => {
    const [migration, writer] = [await guard.owner(), await guard.host()];
    await migration.query("begin");
    await lockExclusively(migration);
    await writer.query(`begin isolation level ${level}`);
    const writing = beginWrite(writer, [guard.before]).catch((error: unknown) => error);
    await guard.blocked(writer.pid);
    await migration.query("comment on table shop.item is 'moved'; commit");
    expect(await writing).toMatchObject({ code: "40001" });
    await writer.query("rollback");
  });

  test("a schema created or dropped since is a serialization failure, and one still missing passes as missing", async () => {
    const writer = await guard.host();
    await writer.query(`begin isolation level ${level}`);
    await assertRevisions(writer, [guard.before, "0"], ["shop", "to_come"]);
    expect(
      await guard.test.query("select from rowhouse.schema_revision where schema_name = 'to_come'"),
    ).toEqual([]);
    await guard.test.execute("create schema to_come");
    await expect(assertRevisions(writer, [guard.before, "0"], ["shop", "to_come"])).rejects.toMatchObject({
      code: "40001",
    });
    await writer.query("rollback");

    const had = await guard.revision("to_come");
    await writer.query(`begin isolation level ${level}`);
    await writer.query("select 1");
    await guard.test.execute("drop schema to_come");
    await expect(assertRevisions(writer, [had], ["to_come"])).rejects.toMatchObject({ code: "40001" });
    await writer.query("rollback");
  });

  test("a read-only transaction may assert revisions", async () => {
    const reader = await guard.host();
    await reader.query(`begin isolation level ${level} read only`);
    await assertRevisions(reader, [guard.before]);
    await expect(assertRevisions(reader, ["1"])).rejects.toMatchObject(changed);
    await reader.query("rollback");
  });
});
