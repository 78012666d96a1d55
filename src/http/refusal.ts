/** What a connection is told before it is closed, if there is no request to answer. */
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

/** How long sending a refusal may take. */
const lingerMs = 500;

/** Sends `text` and closes the connection as soon as it has been handed to the kernel. */
export function dismiss(socket: Duplex, text: string): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  closeWithin(lingerMs, socket);
  socket.end(text, () => socket.destroy());
}

/**
 * The same for a connection that has just been opened. Its request is probably on its way, and closing before it has arrived would reset
 * the connection, so that the client would lose the answer. What arrives is therefore read and thrown away until the client closes.
 */
export function turnAway(socket: Duplex, text: string): void {
  closeWithin(lingerMs, socket);
  socket.end(text);
}

function closeWithin(ms: number, socket: Duplex): void {
  const timer = setTimeout(() => socket.destroy(), ms);
  socket.once("close", () => clearTimeout(timer));
}

/** Answers what the parser rejected, or what took too long to arrive. */
export function refuse(error: Error, socket: Duplex, current: Current | null): void {
  if (!socket.writable || isReset(error)) {
    socket.destroy();
    return;
  }
  if (current !== null && !current.outgoing.writableFinished) {
    const { incoming, outgoing } = current;
    // The fault is in what follows a complete request. That request still gets its answer, and nothing comes after it.
    if (incoming.complete) {
      socket.pause();
      outgoing.shouldKeepAlive = false;
      outgoing.once("close", () => socket.end(() => socket.destroy()));
      return;
    }
    // Another answer cannot be sent in the middle of one.
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

/** For a client that has as many connections, or requests under way, as it may; any of them may end at any moment. */
export const addressBusy = (): HostError =>
  new HostError("ADDRESS_BUSY", undefined, { retryAfterSeconds: 1 });
