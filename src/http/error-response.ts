/** The only place where a HostError becomes an HTTP answer. Clients see the code and the public text, never the cause. */
import { STATUS_CODES } from "node:http";
import type { ErrorCode, HostError } from "../shared/kernel/errors.ts";

export interface Failure {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** Seconds until a retry is worthwhile, for errors that do not say: a build takes longer than replacing a cell. */
const retrySeconds: Partial<Record<ErrorCode, number>> = {
  BUILD_QUEUE_FULL: 2,
  BUILD_TIMEOUT: 5,
  BUILD_HELD: 5,
  DATABASE_UNREACHABLE: 2,
  DATABASE_READ_ONLY: 2,
};

/** RFC 6750, 3.1: an error attribute only if a token was given. */
const challenges: Partial<Record<ErrorCode, string>> = {
  TOKEN_INVALID: 'Bearer error="invalid_token"',
  TOKEN_EXPIRED: 'Bearer error="invalid_token", error_description="The token has expired"',
  TOKEN_REQUIRED: "Bearer",
  UNAUTHORIZED: "Bearer",
};

/** The answer for `error`. Server-side failures contain the request id, so that an operator can find them in the log. */
export function renderFailure(error: HostError, requestId: string | null): Failure {
  const { code, status, publicText } = error;
  const named = status >= 500 && requestId !== null ? { requestId } : {};
  const extensions = { ...error.details, code, ...named };
  const body = JSON.stringify({ errors: [{ message: publicText, extensions }] });
  const headers: Record<string, string> = {
    "content-type": "application/json; charset=utf-8",
    "content-length": String(Buffer.byteLength(body)),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  };
  if (requestId !== null) headers["x-request-id"] = requestId;
  if (error.retryable || error.retryAfterSeconds !== undefined) {
    headers["retry-after"] = String(Math.ceil(error.retryAfterSeconds ?? retrySeconds[code] ?? 1));
  }
  const challenge = challenges[code];
  if (challenge !== undefined) headers["www-authenticate"] = challenge;
  return { status, headers, body };
}

/** A complete HTTP/1.1 answer for connections without a request to answer; the connection closes after it. */
export function renderRawFailure(error: HostError): string {
  const { status, headers, body } = renderFailure(error, null);
  const lines = Object.entries({ ...headers, connection: "close" }).map(
    ([name, value]) => `${name}: ${value}`,
  );
  return [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`, ...lines, "", body].join("\r\n");
}
