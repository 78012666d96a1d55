/** The only place where a HostError becomes HTTP. A client sees the code and the public text, never the cause. */
import { STATUS_CODES } from "node:http";
import type { ErrorCode, HostError } from "../shared/kernel/errors.ts";

export interface Failure {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** Seconds until a retry is worth it, where the error itself does not say: a build takes longer than a swap of cells. */
const retrySeconds: Partial<Record<ErrorCode, number>> = {
  BUILD_QUEUE_FULL: 2,
  BUILD_TIMEOUT: 5,
  BUILD_HELD: 5,
  DATABASE_UNREACHABLE: 2,
  DATABASE_READ_ONLY: 2,
};

/** RFC 6750, 3.1: the error attribute only where a token was given. */
const challenges: Partial<Record<ErrorCode, string>> = {
  TOKEN_INVALID: 'Bearer error="invalid_token"',
  TOKEN_EXPIRED: 'Bearer error="invalid_token", error_description="The token has expired"',
  TOKEN_REQUIRED: "Bearer",
  UNAUTHORIZED: "Bearer",
};

/** The answer for `error`. Server-side failures name the request, so that an operator finds it in the log. */
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

/** For what never became a request: a whole HTTP/1.1 answer, after which the connection closes. */
export function renderRawFailure(error: HostError): string {
  const { status, headers, body } = renderFailure(error, null);
  const lines = Object.entries({ ...headers, connection: "close" }).map(
    ([name, value]) => `${name}: ${value}`,
  );
  return [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`, ...lines, "", body].join("\r\n");
}
