/** A server that lets a connection in and then says nothing, as a pooler does that is paused. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { OpenPool } from "../support/tenant-pool.ts";

let database: TestDatabase;
let server: Server;
let url: string;
let pool: OpenPool;
let isSilent = true;
const sockets = new Set<Socket>();

/** "Ready for query", idle. */
const ready = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

function forward(client: Socket, target: URL): void {
  const backend = connect(Number(target.port), target.hostname);
  let isIn = false;
  backend.on("data", (chunk) => {
    if (isIn && isSilent) return;
    client.write(chunk);
    isIn ||= chunk.subarray(-ready.length).equals(ready);
  });
  client.on("data", (chunk) => backend.write(chunk));
  for (const [one, other] of [
    [client, backend],
    [backend, client],
  ] as const) {
    sockets.add(one);
    one.on("error", () => other.destroy()).on("close", () => other.destroy());
  }
}

beforeAll(async () => {
  database = await createDatabase("silent");
  const target = new URL(database.url);
  server = createServer((client) => forward(client, target)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("it has no port");
  const own = new URL(database.url);
  own.hostname = "127.0.0.1";
  own.port = String(address.port);
  url = own.href;
});
afterEach(() => pool.close());
afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  server.close();
  await database.drop();
});

it("keeps a request and its share of the connections no longer than opening one may take", async () => {
  isSilent = true;
  pool = new OpenPool({ url, poolSize: 1, poolReserve: 0, connectTimeoutMs: 300 });
  for (let attempt = 0; attempt < 3; attempt += 1) {
    await expect(pool.acquire("t1")).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
  }
  expect(pool.stats).toMatchObject({ total: 0, waiting: 0 });
  isSilent = false;
  const connection = await pool.acquire("t1");
  await connection.send([{ text: "select 1" }]);
  connection.release();
});
