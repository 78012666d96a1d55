/** Errors as they cross a thread boundary: plain data, because a structured clone of an Error drops its code. */
import { type ErrorCode, errorTable, HostError, toHostError } from "../kernel/errors.ts";
import type { WireError } from "./messages.ts";
import { SchemaMoved } from "./schema-moved.ts";

/** `error` as plain data; `detail` holds its stack and its causes' messages, for the log only. */
export function toWireError(error: unknown): WireError {
  const { code, message, stack, cause } = toHostError(error);
  const origin = cause instanceof Error ? cause.stack : stack;
  return {
    code,
    message,
    ...(origin === undefined ? {} : { detail: origin }),
    ...(error instanceof SchemaMoved ? { revisions: error.revisions } : {}),
  };
}

/** The HostError that `wire` describes; its cause carries the other thread's stack. */
export function fromWireError(wire: WireError): HostError {
  if (wire.revisions !== undefined) return new SchemaMoved(wire.revisions, wire.detail);
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
