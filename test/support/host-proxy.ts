/** A way to a database that can be cut: what a server that stops looks like to its clients. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export interface DatabaseProxy {
  /** `url`, by way of the proxy. */
  through(url: string): string;
  readonly port: number;
  /** Ends every connection and refuses new ones. */
  cut(): Promise<void>;
  restore(): Promise<void>;
  /** Ends the next `count` connections at their first byte. */
  dropNext(count: number): void;
  close(): Promise<void>;
}

/** A proxy to the server that `target` names. */
export async function openProxy(target: string): Promise<DatabaseProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let toDrop = 0;
  const forward = (client: Socket): void => {
    if (toDrop > 0) {
      toDrop -= 1;
      client.once("data", () => client.destroy());
      return;
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
      return own.href;
    },
    cut,
    restore,
    dropNext: (count) => {
      toDrop = count;
    },
    close: cut,
  };
}
