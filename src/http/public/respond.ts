/** Writes answers and failures to the socket, in as few writes as possible. */
import type { ServerResponse } from "node:http";
import type { CancellationToken } from "../../shared/kernel/cancellation.ts";
import { type HostError, unreachable } from "../../shared/kernel/errors.ts";
import type { MaybePromise } from "../../shared/kernel/eventually.ts";
import { discardBody, receiveBody } from "../../shared/protocol/body-stream.ts";
import type { Answer } from "../../shared/protocol/messages.ts";
import { renderFailure } from "../error-response.ts";
import { announcesBody } from "../request-head.ts";
import type { Exchange } from "./exchange.ts";

/** How long the rest of a refused body is read and discarded before the connection closes. */
const lingerMs = 500;

/**
 * Writes `answer` and changes its headers, whose names are in lower case. Returns, or resolves, when the last byte has been handed to
 * the socket. A stream is sent at the client's pace. If it fails, or the exchange is aborted, the promise rejects and the answer is left
 * without an end: the caller destroys the connection, because a proper end would make half an answer look complete. Throws if
 * the head cannot be written; nothing has been sent then.
 */
export function sendAnswer(exchange: Exchange, answer: Answer): MaybePromise<void> {
  try {
    return writeAnswer(exchange, answer);
  } catch (error) {
    // A plugin has set an invalid header or status. Nobody will read the body, and its source would wait for ever.
    if (answer.kind === "stream") discardBody(answer.port);
    throw error;
  }
}

function writeAnswer({ outgoing, requestId, signal }: Exchange, answer: Answer): MaybePromise<void> {
  const { status, headers } = answer;
  headers["x-request-id"] = requestId;
  headers["x-content-type-options"] = "nosniff";
  if (headers["content-type"]?.startsWith("text/html") === true) guardPage(headers);
  // RFC 9110, 6.4.1: these two have no body, whatever the cell sent.
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

/** Used instead of stream.pipeline, which tells a silent source that it was cancelled only after its next chunk. */
async function pump(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  outgoing: ServerResponse,
  signal: CancellationToken,
): Promise<void> {
  // Also ends a pending read.
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

/** Resolves when `outgoing` accepts more, or is closed. */
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

/** GraphiQL runs what is typed into it with the visitor's cookies, so no other site's page may frame it. */
function guardPage(headers: Record<string, string>): void {
  headers["content-security-policy"] ??= "frame-ancestors 'none'";
  headers["x-frame-options"] ??= "DENY";
  headers["referrer-policy"] ??= "same-origin";
}

/**
 * Writes `error` as the answer; `allow` names the methods that are allowed. If a body is still arriving, the connection closes after a
 * moment in which the body is read and discarded: closing with unread bytes would reset the connection, and the client would lose
 * the answer. If an answer has been begun already, the connection is destroyed.
 */
export function sendFailure(
  { incoming, outgoing, requestId }: Exchange,
  error: HostError,
  allow: string,
): void {
  if (outgoing.headersSent || outgoing.destroyed) {
    outgoing.destroy();
    return;
  }
  const { status, headers, body } = renderFailure(error, requestId);
  if (error.code === "METHOD_NOT_ALLOWED") headers["allow"] = allow;
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
