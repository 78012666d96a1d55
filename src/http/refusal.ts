/** Last words to a connection on which there is no request to be answered. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { codeOf, HostError } from "../shared/kernel/errors.ts";
import { renderRawFailure } from "./error-response.ts";

/** The latest request of a connection. */
export interface Current {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
}

export const maxHeadBytes = 16 * 1024;

/** How long words may take to go out, or a client to take them. */
const lingerMs = 500;

/** Says `text`, and closes as soon as it is with the socket. */
export function dismiss(socket: Duplex, text: string): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  closeWithin(lingerMs, socket);
  socket.end(text, () => socket.destroy());
}

/**
 * The same to one that has only just come: its request is probably on its way, and closing before it is here would reset the
 * connection, and cost the client the answer. So what comes is read and thrown away until the client closes.
 */
export function turnAway(socket: Duplex, text: string): void {
  closeWithin(lingerMs, socket);
  socket.end(text);
}

function closeWithin(ms: number, socket: Duplex): void {
  const timer = setTimeout(() => socket.destroy(), ms);
  socket.once("close", () => clearTimeout(timer));
}

/** For what the parser gave up on, or what took too long to come. */
export function refuse(error: Error, socket: Duplex, current: Current | null): void {
  if (!socket.writable || isReset(error)) {
    socket.destroy();
    return;
  }
  if (current !== null && !current.outgoing.writableFinished) {
    const { incoming, outgoing } = current;
    // What follows a whole request is at fault, not that request: it gets its own answer, and nothing comes behind it.
    if (incoming.complete) {
      socket.pause();
      outgoing.shouldKeepAlive = false;
      outgoing.once("close", () => socket.end(() => socket.destroy()));
      return;
    }
    // In the middle of an answer there is no place for another one.
    if (outgoing.headersSent) {
      socket.destroy();
      return;
    }
  }
  dismiss(socket, renderRawFailure(refusalOf(error)));
}

const isReset = (error: Error): boolean => codeOf(error) === "ECONNRESET";

function refusalOf(error: Error): HostError {
  switch (codeOf(error)) {
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new HostError("DEADLINE");
    case "HPE_HEADER_OVERFLOW":
      return new HostError("BAD_REQUEST", `The request's head is larger than ${maxHeadBytes} bytes.`);
    default:
      return new HostError("BAD_REQUEST", "The request is not valid HTTP/1.1.");
  }
}

/** For a client that has as many connections, or requests under way, as it may have. Any of them may end at any time. */
export const addressBusy = (): HostError =>
  new HostError("ADDRESS_BUSY", undefined, { retryAfterSeconds: 1 });
