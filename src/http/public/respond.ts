/** Answers and failures onto the socket, each in as few writes as it takes. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { CancellationToken } from "../../shared/kernel/cancellation.ts";
import { type HostError, unreachable } from "../../shared/kernel/errors.ts";
import type { MaybePromise } from "../../shared/kernel/eventually.ts";
import { discardBody, receiveBody } from "../../shared/protocol/body-stream.ts";
import type { Answer } from "../../shared/protocol/messages.ts";
import { renderFailure } from "../error-response.ts";
import { announcesBody } from "../request-head.ts";

/** How long the rest of a refused body is read and thrown away before the connection closes. */
const lingerMs = 500;

/**
 * Writes `answer`; its headers are taken over, names in lower case. Done, or resolves, when the last byte is with the socket.
 * A stream follows the client's pace; where it fails, or `signal` aborts, its promise rejects and the answer has no
 * end: the caller destroys the connection, because a clean end would pass half an answer off as a whole one. Throws where the head
 * cannot be written, with nothing of it sent.
 */
export function sendAnswer(
  outgoing: ServerResponse,
  answer: Answer,
  requestId: string,
  signal: CancellationToken,
): MaybePromise<void> {
  try {
    return writeAnswer(outgoing, answer, requestId, signal);
  } catch (error) {
    // A head that a plugin has spoiled: nobody will read the body, and its source would wait for that for ever.
    if (answer.kind === "stream") discardBody(answer.port);
    throw error;
  }
}

function writeAnswer(
  outgoing: ServerResponse,
  answer: Answer,
  requestId: string,
  signal: CancellationToken,
): MaybePromise<void> {
  const { status, headers } = answer;
  headers["x-request-id"] = requestId;
  headers["x-content-type-options"] = "nosniff";
  if (headers["content-type"]?.startsWith("text/html") === true) guardPage(headers);
  // RFC 9110, 6.4.1: these two have no body, whatever the cell says.
  const bodiless = status === 204 || status === 304;
  switch (answer.kind) {
    case "text":
    case "bytes":
      if (!bodiless) headers["content-length"] = String(Buffer.byteLength(answer.body));
      outgoing.writeHead(status, headers);
      outgoing.end(bodiless ? undefined : answer.body);
      return;
    case "stream":
      if (bodiless) {
        discardBody(answer.port);
        outgoing.writeHead(status, headers).end();
        return;
      }
      outgoing.writeHead(status, headers);
      outgoing.flushHeaders();
      return pump(receiveBody(answer.port).getReader(), outgoing, signal);
    default:
      unreachable(answer);
  }
}

/** Not stream.pipeline: it waits for a silent source's next chunk before it tells the source that it was cancelled. */
async function pump(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  outgoing: ServerResponse,
  signal: CancellationToken,
): Promise<void> {
  // Also ends a read that is waiting.
  const cancel = (): void => {
    reader.cancel(signal.reason).catch(() => {});
  };
  signal.addEventListener("abort", cancel, { once: true });
  if (signal.aborted) cancel();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done) break;
      if (!outgoing.write(value)) await drained(outgoing);
    }
    outgoing.end();
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}

/** Resolves when `outgoing` takes more, or is gone. */
function drained(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      outgoing.off("drain", done);
      outgoing.off("close", done);
      resolve();
    };
    outgoing.on("drain", done);
    outgoing.on("close", done);
  });
}

/** GraphiQL runs whatever is typed into it with the visitor's cookies: nobody else's page may frame it. */
function guardPage(headers: Record<string, string>): void {
  headers["content-security-policy"] ??= "frame-ancestors 'none'";
  headers["x-frame-options"] ??= "DENY";
  headers["referrer-policy"] ??= "same-origin";
}

/**
 * Writes the failure that `error` renders to. Where a body is still on its way the connection closes, after a moment in
 * which that body is read and thrown away: closing with unread bytes resets the connection, and the client would
 * lose the answer that tells it what was wrong.
 */
export function sendFailure(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  error: HostError,
  requestId: string,
): void {
  if (outgoing.headersSent || outgoing.destroyed) {
    outgoing.destroy();
    return;
  }
  const { status, headers, body } = renderFailure(error, requestId);
  if (error.code === "METHOD_NOT_ALLOWED") headers["allow"] = "GET, POST, OPTIONS";
  const bodyComing = announcesBody(incoming) && !incoming.readableEnded;
  if (!bodyComing && error.code !== "SHUTTING_DOWN") {
    outgoing.writeHead(status, headers).end(body);
    return;
  }
  headers["connection"] = "close";
  outgoing.writeHead(status, headers);
  if (!bodyComing) {
    outgoing.end(body);
    return;
  }
  outgoing.write(body);
  const end = (): void => {
    clearTimeout(timer);
    incoming.off("end", end);
    incoming.off("close", end);
    outgoing.end();
  };
  const timer = setTimeout(end, lingerMs);
  incoming.on("end", end);
  incoming.on("close", end);
  incoming.resume();
}
