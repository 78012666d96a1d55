/** Answers a request with one instance: grafserv, with a message instead of a socket. */
import type { AsyncLocalStorage } from "node:async_hooks";
import { parse as parseQuery } from "node:querystring";
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { GrafservBase, type GrafservConfig, type Result } from "postgraphile/grafserv";
import { HostError, messageOf, unreachable } from "../../src/shared/kernel/errors.ts";
import { sendBody } from "../../src/shared/protocol/body-stream.ts";
import { feedHeader } from "../../src/shared/protocol/events.ts";
import {
  type Answer,
  liveHeader,
  type OperationLimits,
  type RequestTask,
} from "../../src/shared/protocol/messages.ts";
import { EventFeed, resultsIn } from "./event-feed.ts";
import { liveSeconds } from "./live.ts";
import { nodeContext } from "./node-request.ts";
import type { RequestScope } from "./request-scope.ts";
import { assertFewValuesIn } from "./variables.ts";

/** A text of this length or more is encoded here and its bytes are transferred, instead of being copied twice. */
const transferFrom = 64 * 1024;

/** The part of a request that grafserv is told. */
export type ServedRequest = Pick<RequestTask, "method" | "path" | "query" | "headers" | "body">;

export interface Served {
  readonly answer: Answer;
  /** The parts of the answer that are moved to the other thread. */
  readonly transfer: readonly (ArrayBuffer | MessagePort)[];
  /** Resolves when the body, if it is a stream, has been sent or given up. */
  readonly sent: Promise<void>;
}

const nothingMore = Promise.resolve();

export class CellServ extends GrafservBase {
  readonly #requests: AsyncLocalStorage<RequestScope>;
  readonly #limits: OperationLimits;

  constructor(config: GrafservConfig, requests: AsyncLocalStorage<RequestScope>, limits: OperationLimits) {
    super(config);
    this.#requests = requests;
    this.#limits = limits;
  }

  /** Resolves when requests can be answered. Throws what a preset's middleware threw; grafserv would answer 503 for ever. */
  async opened(): Promise<void> {
    let fault: unknown;
    const onFault = (error: unknown): void => {
      fault = error ?? new Error("the preset's middleware failed");
    };
    this.eventEmitter.on("dynamicOptions:error", onFault);
    await this.ready();
    this.eventEmitter.off("dynamicOptions:error", onFault);
    if (fault !== undefined) throw fault;
  }

  /** The answer to `task`; throws a HostError if the host is to answer instead. */
  serve(task: ServedRequest, scope: RequestScope): Promise<Served> {
    return this.#requests.run(scope, () => this.#answer(task, scope));
  }

  async #answer(task: ServedRequest, scope: RequestScope): Promise<Served> {
    const { body } = task;
    const headers = { ...task.headers };
    const isSubscriber = headers[liveHeader] !== undefined;
    if (isSubscriber) scope.feed = EventFeed.takenFrom(headers);
    if (body !== null && headers["content-type"]?.includes("json") === true)
      assertFewValuesIn(body, this.#limits);
    const result = await this.processRequest({
      httpVersionMajor: 1,
      httpVersionMinor: 1,
      isSecure: false,
      method: task.method,
      path: task.path,
      headers,
      getQueryParams: () => queryOf(task.query),
      getBody: () => ({ type: "text", text: body ?? "" }),
      requestContext: { rowhouse: scope, node: nodeContext(task, headers) },
      preferJSON: true,
    });
    const feed = scope.feed?.isSubscription === true ? scope.feed : null;
    const results =
      feed !== null && result?.type === "bufferStream"
        ? await resultsIn(result.bufferIterator, scope.stop, feed)
        : null;
    // Only if nothing was committed may the client get a status that invites it to try again.
    if (scope.hostFailure !== null && !scope.mayHaveCommitted) throw scope.hostFailure;
    if (result === null) throw new HostError("NOT_FOUND");
    if (feed !== null && results !== null) {
      return text(200, { [feedHeader]: JSON.stringify(feed.report) }, results);
    }
    const found = served(result, scope);
    if (isSubscriber && found.answer.status < 400) {
      const seconds = liveSeconds(body ?? "{}");
      if (seconds !== null) found.answer.headers[liveHeader] = String(seconds);
    }
    return found;
  }
}

function queryOf(query: string): Record<string, string | string[]> {
  const params: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(parseQuery(query))) {
    if (value !== undefined) params[name] = value;
  }
  return params;
}

function served(result: Result, scope: RequestScope): Served {
  switch (result.type) {
    case "json": {
      const json = result.statusCode < 400 ? result.json : withCodes(result.json, result.statusCode);
      // grafserv (1.0.2) names no method in a 405. POST is always allowed, whatever the preset says about GET.
      const headers = result.statusCode === 405 ? { ...result.headers, allow: "POST" } : result.headers;
      return text(result.statusCode, headers, JSON.stringify(json));
    }
    case "buffer":
      // A copy, because the buffer may be a view of Node's pool or a cached file, and transferring either would empty it.
      return bytes(result.statusCode, result.headers, Uint8Array.from(result.buffer));
    case "noContent":
      return text(result.statusCode, result.headers, "");
    case "error":
      throw protocolError(result.statusCode, messageOf(result.error));
    case "bufferStream": {
      const { port1, port2 } = new MessageChannel();
      scope.stream();
      return {
        answer: { kind: "stream", status: result.statusCode, headers: plain(result.headers), port: port2 },
        transfer: [port2],
        sent: sendBody(port1, result.bufferIterator, scope.signal).then((error) => {
          // Once the host has the port it gets no more messages, so work for a reader who has left is cancelled here.
          if (error !== null) scope.cancel();
        }),
      };
    }
    default:
      return unreachable(result);
  }
}

/**
 * Copies headers with names in lower case. Headers without a prototype do not arrive in the main thread as an object that
 * `Object.entries` accepts. Plugins write names in any case: a `Content-Length` in capitals would be sent beside the correct one,
 * and nobody could tell where the answer ends.
 */
function plain(headers: Record<string, string>): Record<string, string> {
  const copy: Record<string, string> = {};
  for (const given in headers) {
    const value = headers[given];
    const name = given.toLowerCase();
    // The main thread decides how the bytes are sent.
    if (value !== undefined && name !== "content-length" && name !== "transfer-encoding") copy[name] = value;
  }
  return copy;
}

function text(status: number, headers: Record<string, string>, body: string): Served {
  if (body.length >= transferFrom) return bytes(status, headers, new TextEncoder().encode(body));
  return { answer: { kind: "text", status, headers: plain(headers), body }, transfer: [], sent: nothingMore };
}

function bytes(status: number, headers: Record<string, string>, own: Uint8Array<ArrayBuffer>): Served {
  return {
    answer: { kind: "bytes", status, headers: plain(headers), body: own },
    transfer: [own.buffer],
    sent: nothingMore,
  };
}

function protocolError(status: number, message: string): HostError {
  if (status === 415) return new HostError("MEDIA_TYPE", message);
  if (status === 413) return new HostError("BODY_TOO_LARGE", message);
  if (status === 405) return new HostError("METHOD_NOT_ALLOWED");
  return status < 500 ? new HostError("BAD_REQUEST", message) : new HostError("INTERNAL", message);
}

/** Adds codes like the host's own to protocol refusals; errors with a place in the document are GraphQL's and stay unchanged. */
function withCodes(json: unknown, status: number): unknown {
  if (typeof json !== "object" || json === null || !("errors" in json) || !Array.isArray(json.errors))
    return json;
  const errors: readonly unknown[] = json.errors;
  return { ...json, errors: errors.map((error) => withCode(error, status)) };
}

function codeIn(extensions: unknown): string | undefined {
  if (typeof extensions !== "object" || extensions === null || !("code" in extensions)) return undefined;
  return typeof extensions.code === "string" ? extensions.code : undefined;
}

function withCode(error: unknown, status: number): unknown {
  if (typeof error !== "object" || error === null || "locations" in error || "path" in error) return error;
  const message = "message" in error ? String(error.message) : "";
  const given = "extensions" in error ? codeIn(error.extensions) : undefined;
  return { message, extensions: { code: given ?? protocolError(status, message).code } };
}
