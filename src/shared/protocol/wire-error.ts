/** Errors as they cross a thread boundary: plain data, because a structured clone of an Error drops its code. */
import { type ErrorCode, errorTable, HostError, messageOf, toHostError } from "../kernel/errors.ts";
import { excerpt, excerptOfStack } from "../kernel/excerpt.ts";
import type { WireError } from "./messages.ts";
import { SchemaChanged } from "./schema-moved.ts";

/**
 * `error` as plain data; `detail` holds its stack, for the log only; both are excerpts, as a message may quote a
 * client's megabytes. An error of the host's may have been in a
 * plugin's hands, which gave it a code or a message of its own: what the front does not know is `INTERNAL` there.
 */
export function toWireError(error: unknown): WireError {
  const hosts = toHostError(error);
  const code: unknown = hosts.code;
  const detail = stackOf(hosts);
  return {
    code: isErrorCode(code) ? code : "INTERNAL",
    message: excerpt(messageOf(hosts)),
    ...(detail === undefined ? {} : { detail }),
    ...(error instanceof SchemaChanged ? { revisions: error.revisions } : {}),
  };
}

/** The stack of its cause, or else its own. It is made when it is read, by whatever a plugin's libraries have put in V8's place. */
function stackOf(error: HostError): string | undefined {
  try {
    const origin = error.cause instanceof Error ? error.cause : error;
    const stack: unknown = origin.stack;
    return typeof stack === "string" ? excerptOfStack(stack, messageOf(origin)) : undefined;
  } catch {
    return undefined;
  }
}

/** The HostError that `wire` describes; its cause carries the other thread's stack. */
export function fromWireError(wire: WireError): HostError {
  if (wire.revisions !== undefined) return new SchemaChanged(wire.revisions, wire.detail);
  return new HostError(wire.code, wire.message, wire.detail === undefined ? {} : { cause: wire.detail });
}

/** The wire error in `value`, or undefined where it is not one. */
export function parseWireError(value: unknown): WireError | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (!("code" in value) || !("message" in value)) return undefined;
  const { code, message } = value;
  if (!isErrorCode(code) || typeof message !== "string") return undefined;
  return {
    code,
    message,
    ...("detail" in value && typeof value.detail === "string" ? { detail: value.detail } : {}),
    ...("revisions" in value && typeof value.revisions === "string" ? { revisions: value.revisions } : {}),
  };
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(errorTable, code);
}
