/** Raw HTTP/1.1 over a socket, for requests that no well-behaved client sends. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export interface RawConnection {
  readonly socket: Socket;
  send(text: string): void;
  /** Everything received until the server closed. */
  readonly received: Promise<string>;
  /** Resolves with everything received so far once it matches. */
  until(pattern: RegExp): Promise<string>;
}

/** `from` is the client's own address: on Linux all of 127.0.0.0/8 belongs to this machine. */
export async function rawConnect(port: number, from = "127.0.0.1"): Promise<RawConnection> {
  const socket = connect({ port, host: "127.0.0.1", localAddress: from });
  await once(socket, "connect");
  let text = "";
  socket.setEncoding("latin1");
  socket.on("data", (data) => {
    text += data;
  });
  // A destroyed answer appears here as a reset.
  socket.on("error", () => {});
  const received = new Promise<string>((resolve) => socket.on("close", () => resolve(text)));
  return {
    socket,
    received,
    send: (part) => socket.write(part, "latin1"),
    until: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (pattern.test(text)) resolve(text);
        };
        socket.on("data", look);
        const end = (): void => reject(new Error(`closed before ${pattern}: ${text}`));
        socket.on("close", end);
        look();
        if (socket.closed) end();
      }),
  };
}

/** Sends one request that says `Connection: close`, and returns its whole answer. */
export async function rawRequest(port: number, text: string): Promise<string> {
  const connection = await rawConnect(port);
  connection.send(text);
  return connection.received;
}

/** A POST to /graphql that ends its connection; `headers` may contradict the body. */
export const post = (body: string, headers: Record<string, string> = {}): string =>
  [
    "POST /graphql HTTP/1.1",
    "Host: acme.localhost",
    "Content-Type: application/json",
    "Connection: close",
    ...Object.entries({ "Content-Length": String(body.length), ...headers }).map(([k, v]) => `${k}: ${v}`),
    "",
    body,
  ].join("\r\n");

/** A GET with only the given headers. */
export const get = (target: string, ...headers: string[]): string =>
  [`GET ${target} HTTP/1.1`, ...headers, "Connection: close", "", ""].join("\r\n");

/** The error code in a raw answer. */
export const codeIn = (answer: string): string | undefined => /"code":"(\w+)"/.exec(answer)?.[1];
