/** A transaction pooler that tells its clients the id of a backend, as if they had that one to themselves. PgBouncer makes up a key. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Client } from "pg";

export interface PassingPooler {
  readonly url: string;
  close(): Promise<void>;
}

/** The end of what a server says when it waits for the next transaction. */
const idle = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

/**
 * In front of the server of `target`. A client logs in to a backend of its own; each transaction then is sent to that one or to a second, by
 * turns. What it sends together has to come in one piece, as it does on the loopback of one machine up to 64 kB.
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
    // From here on it is the other client's.
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
