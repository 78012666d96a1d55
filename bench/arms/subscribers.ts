/** Subscribers in a process of their own: opens connections, commits changes, and reports when each connection has heard of one. */
import { on, once } from "node:events";
import { connect, type Socket } from "node:net";
import pg from "pg";
import { WebSocket } from "ws";
import { z } from "zod";

const commandShape = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("open"),
    url: z.string(),
    transport: z.enum(["websocket", "sse"]),
    /** One connection for each: its tenant and its query. */
    connections: z.array(z.object({ tenant: z.string(), query: z.string() })),
  }),
  /** `label` is in every result after `sql`, and in none before it; of one tenant, or of all. */
  z.object({ kind: z.literal("change"), sql: z.string(), label: z.string(), tenant: z.string().nullable() }),
  z.object({ kind: z.literal("close") }),
]);
type Command = z.output<typeof commandShape>;
type Opening = Extract<Command, { kind: "open" }>["connections"][number];

/** How many connections are being opened at a time. */
const concurrency = 64;
const slowMs = 60_000;

interface Connection {
  readonly tenant: string;
  end(): void;
}

const connections: Connection[] = [];
/** The change that is being waited for. */
let awaited: { label: string; left: Set<Connection>; done: () => void } | null = null;

function heard(connection: Connection, text: string): void {
  if (awaited === null || !text.includes(awaited.label)) return;
  awaited.left.delete(connection);
  if (awaited.left.size === 0) awaited.done();
}

async function openSocket(url: string, { tenant, query }: Opening): Promise<void> {
  const socket = new WebSocket(url.replace("http", "ws"), "graphql-transport-ws", {
    headers: { "x-tenant": tenant },
    perMessageDeflate: false,
  });
  const connection = { tenant, end: () => socket.terminate() };
  connections.push(connection);
  await once(socket, "open");
  socket.send('{"type":"connection_init"}');
  await once(socket, "message");
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.on("message", (data) => {
    const text = String(data);
    if (text.includes('"next"') && !text.includes('"errors"')) resolve();
    else reject(new Error(text));
    heard(connection, text);
  });
  socket.send(JSON.stringify({ type: "subscribe", id: "1", payload: { query } }));
  await promise;
}

async function openStream(url: string, { tenant, query }: Opening): Promise<void> {
  const { hostname, port, host, pathname } = new URL(url);
  const socket: Socket = connect(Number(port), hostname);
  const connection = { tenant, end: () => socket.destroy() };
  connections.push(connection);
  const body = JSON.stringify({ query });
  socket.write(
    `POST ${pathname} HTTP/1.1\r\nhost: ${host}\r\nx-tenant: ${tenant}\r\ncontent-type: application/json\r\n` +
      `accept: text/event-stream\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let rest = "";
  socket.on("error", reject);
  socket.on("data", (data) => {
    const events = `${rest}${data}`.split("\n\n");
    rest = events.pop() ?? "";
    for (const text of events) {
      if (text.includes('"errors"')) reject(new Error(text));
      if (!text.includes("event: next")) continue;
      resolve();
      heard(connection, text);
    }
  });
  await promise;
}

/** Opens them all; resolves when each has had its first result. */
async function open({
  url,
  transport,
  connections: asked,
}: Extract<Command, { kind: "open" }>): Promise<void> {
  const left = asked.values();
  const openOne = transport === "websocket" ? openSocket : openStream;
  const openNext = async (): Promise<void> => {
    for (const each of left) await openOne(url, each);
  };
  await Promise.all(Array.from({ length: concurrency }, openNext));
}

/** Commits a change; returns the milliseconds from then until the last connection has heard of it. */
async function change({ sql, label, tenant }: Extract<Command, { kind: "change" }>): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const left = new Set(connections.filter((each) => tenant === null || each.tenant === tenant));
  awaited = { label, left, done: resolve };
  const timer = setTimeout(() => reject(new Error(`${left.size} have not heard of ${label}`)), slowMs);
  await database.query(sql);
  const startedMs = performance.now();
  await promise;
  clearTimeout(timer);
  awaited = null;
  return performance.now() - startedMs;
}

const messages = on(process, "message");
const [first]: unknown[] = (await messages.next()).value ?? [];
const { databaseUrl } = z.object({ input: z.object({ databaseUrl: z.string() }) }).parse(first).input;
const database = new pg.Client({ connectionString: databaseUrl });
await database.connect();
for await (const [message] of messages) {
  const command = commandShape.parse(message);
  let ms = 0;
  if (command.kind === "open") await open(command);
  else if (command.kind === "change") ms = await change(command);
  else for (const each of connections.splice(0)) each.end();
  process.send?.({ ms });
}
