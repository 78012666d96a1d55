import { describe, expect, it } from "vitest";
import { oneConnection } from "../support/one-connection.ts";
import { adaptorOn } from "../support/worker-adaptor.ts";

const one = oneConnection("adaptor_doubt");

describe("a connection in doubt", () => {
  it("is not returned: left with a statement under way", async () => {
    const connection = await one.bench.sessions.connect();
    const left = connection.send([{ text: "select pg_sleep(0.2)" }]);
    connection.release();
    await left.catch(() => undefined);
    expect(connection.doubt).not.toBeNull();
  });

  it("is not returned: left inside a transaction", async () => {
    const connection = await one.bench.sessions.connect();
    await connection.send([{ text: "begin" }]);
    connection.release();
    expect(connection.doubt).not.toBeNull();
    const again = await one.bench.sessions.connect();
    expect(again).not.toBe(connection);
    again.release();
  });

  it("is none after an error: that is reported when PostgreSQL is done, and the transaction's state known", async () => {
    const connection = await one.bench.sessions.connect();
    const wire = connection.client.connection;
    await connection.send([{ text: "begin" }]);
    const { emit } = wire;
    // As when the end of the group arrives later than the error.
    wire.emit = (event, ...rest) => {
      if (event !== "readyForQuery") return emit.call(wire, event, ...rest);
      setImmediate(() => emit.call(wire, event, ...rest));
      return true;
    };
    await expect(connection.send([{ text: "select 1/0" }])).rejects.toMatchObject({ code: "22012" });
    expect(connection.client.getTransactionStatus()).toBe("E");
    await connection.send([{ text: "rollback" }]);
    wire.emit = emit;
    connection.release();
    expect(connection.doubt).toBeNull();
  });

  it("is given up when a function asks for a copy from the client", async () => {
    const connection = await one.bench.sessions.connect();
    await expect(connection.send([{ text: "copy ada.item from stdin" }])).rejects.toThrow(/COPY/);
    connection.release();
  });
});

it("a database that cannot be reached is said to be so, at once", async () => {
  const away = adaptorOn({ ...one.database, url: "postgres://nobody@127.0.0.1:1/none" });
  const lost = away.request("ada");
  await expect(away.read(lost, "select 1")).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
  expect(lost.scope.hostFailure).toMatchObject({ code: "DATABASE_UNREACHABLE" });
  await expect(away.withPgClient(lost.settings, () => 1)).rejects.toMatchObject({
    code: "DATABASE_UNREACHABLE",
  });
  await away.close();
});
