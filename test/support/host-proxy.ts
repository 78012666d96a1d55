/** A proxy to a database that can be cut, to look like a server that stops. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export interface DatabaseProxy {
  /** `url`, redirected through the proxy. */
  through(url: string): string;
  readonly port: number;
  /** Sends new connections to the server in `target`; existing ones stay where they are. */
  aim(target: string): void;
  /** Ends every connection and refuses new ones. */
  cut(): Promise<void>;
  restore(): Promise<void>;
  /** Cuts each of the next `count` connections when its client sends its `atChunk`th chunk, by default the first. */
  dropNext(count: number, atChunk?: number): void;
  /** Cuts each existing connection when its client sends its `chunks`th chunk from now on. */
  dropAfter(chunks: number): void;
  /** The number of connections cut in these ways. */
  readonly dropped: number;
  close(): Promise<void>;
}

/** A proxy to the server that `target` names. */
export async function openProxy(target: string): Promise<DatabaseProxy> {
  let { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const clients = new Set<Socket>();
  let toDrop = 0;
  let dropAt = 1;
  let dropped = 0;
  const dropAtChunk = (client: Socket, last: number): void => {
    let chunks = 0;
    client.on("data", () => {
      chunks += 1;
      if (chunks !== last) return;
      dropped += 1;
      client.destroy();
    });
  };
  const forward = (client: Socket): void => {
    clients.add(client);
    client.on("close", () => clients.delete(client));
    if (toDrop > 0) {
      toDrop -= 1;
      dropAtChunk(client, dropAt);
    }
    const server = connect(Number(port), hostname);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  };
  let server: Server | null = null;
  let ownPort = 0;
  const restore = async (): Promise<void> => {
    server = createServer(forward).listen(ownPort, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address !== null && typeof address === "object") ownPort = address.port;
  };
  const cut = async (): Promise<void> => {
    const closed = server === null ? null : once(server, "close");
    server?.close();
    server = null;
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  await restore();
  return {
    port: ownPort,
    through: (url) => {
      const own = new URL(url);
      own.hostname = "127.0.0.1";
      own.port = String(ownPort);
      // Without TLS, so that a client's first chunk is its startup message and not an SSLRequest.
      own.searchParams.set("sslmode", "disable");
      return own.href;
    },
    aim: (other) => {
      ({ hostname, port } = new URL(other));
    },
    cut,
    restore,
    get dropped() {
      return dropped;
    },
    dropNext: (count, atChunk = 1) => {
      toDrop = count;
      dropAt = atChunk;
    },
    dropAfter: (chunks) => {
      for (const client of clients) dropAtChunk(client, chunks);
    },
    close: cut,
  };
}
