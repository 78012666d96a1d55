/**
 * A transaction pooler that reports a real backend's id to its clients, as if they had that backend to themselves. (PgBouncer
 * makes up a key.)
 */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Client } from "pg";

export interface PassingPooler {
  readonly url: string;
  close(): Promise<void>;
}

/** The end of a server's output when it waits for the next transaction. */
const idle = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

/**
 * Starts one in front of the server of `target`. A client logs in to a backend of its own; its transactions are then sent to that
 * one and to a second in turn. What the client sends together must arrive in one piece, as it does on the loopback interface up
 * to 64 kB.
 */
export async function openPassingPooler(target: string): Promise<PassingPooler> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Duplex>();
  const seconds: Client[] = [];

  const serve = async (client: Socket): Promise<void> => {
    const first = connect(Number(port), hostname);
    sockets.add(client).add(first);
    let backends: readonly Duplex[] = [first];
    let turn = 0;
    let rests = false;
    const answer = (chunk: Buffer): void => {
      rests = chunk.subarray(-idle.length).equals(idle);
      client.write(chunk);
    };
    first.on("data", answer);
    client.on("data", (chunk) => {
      if (rests) turn += 1;
      rests = false;
      backends[turn % backends.length]?.write(chunk);
    });
    client.on("error", () => first.destroy()).on("close", () => first.destroy());
    first.on("error", () => client.destroy()).on("close", () => client.destroy());
    const second = new Client({ connectionString: target });
    second.on("error", () => undefined);
    seconds.push(second);
    await second.connect();
    const { stream } = second.connection;
    // From here on the connection belongs to the pooled client.
    stream.removeAllListeners("data").on("data", answer);
    sockets.add(stream);
    backends = [first, stream];
  };

  const server = createServer((client) => void serve(client).catch(() => client.destroy()));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("it has no port");
  const own = new URL(target);
  own.hostname = "127.0.0.1";
  own.port = String(address.port);
  return {
    url: own.href,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
