import { describe, expect, it } from "vitest";
import { oneConnection } from "../support/one-connection.ts";
import { adaptorOn } from "../support/worker-adaptor.ts";

const one = oneConnection("adaptor_doubt");

describe("a connection", () => {
  it("with a statement still running is not returned to the pool", async () => {
    const connection = await one.bench.sessions.acquire();
    const left = connection.send([{ text: "select pg_sleep(0.2)" }]);
    connection.release();
    await left.catch(() => undefined);
    expect(connection.brokenBy).not.toBeNull();
  });

  it("with an open transaction is not returned to the pool", async () => {
    const connection = await one.bench.sessions.acquire();
    await connection.send([{ text: "begin" }]);
    connection.release();
    expect(connection.brokenBy).not.toBeNull();
    const again = await one.bench.sessions.acquire();
    expect(again).not.toBe(connection);
    again.release();
  });

  it("is returned after an error, which is reported only once PostgreSQL is done and the transaction's state is known", async () => {
    const connection = await one.bench.sessions.acquire();
    const wire = connection.client.connection;
    await connection.send([{ text: "begin" }]);
    const { emit } = wire;
    // The end of the group arrives later than the error.
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
    expect(connection.brokenBy).toBeNull();
  });

  it("is discarded when a statement asks the client for COPY data", async () => {
    const connection = await one.bench.sessions.acquire();
    await expect(connection.send([{ text: "copy ada.item from stdin" }])).rejects.toThrow(/COPY/);
    connection.release();
  });
});

it("a database that cannot be reached fails requests at once as DATABASE_UNREACHABLE", async () => {
  const away = adaptorOn({ ...one.database, url: "postgres://nobody@127.0.0.1:1/none" });
  const lost = away.request("ada");
  await expect(away.read(lost, "select 1")).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
  expect(lost.scope.hostFailure).toMatchObject({ code: "DATABASE_UNREACHABLE" });
  await expect(away.withPgClient(lost.settings, () => 1)).rejects.toMatchObject({
    code: "DATABASE_UNREACHABLE",
  });
  await away.close();
});
