/** Errors that cross a thread boundary as plain data, because a structured clone of an Error drops its code. */
import pg from "pg";
import { type ErrorCode, errorTable, HostError, messageOf, toHostError } from "../kernel/errors.ts";
import { excerpt, excerptOfStack } from "../kernel/excerpt.ts";
import type { WireError } from "./messages.ts";
import { SchemaChanged } from "./schema-moved.ts";

/**
 * `error` as plain data. `detail` holds its stack, for the log only; both texts are excerpts, because a
 * message may quote a client's megabytes. A plugin may have changed the code or message of one of the host's
 * errors: a code unknown to the front becomes `INTERNAL`.
 */
export function toWireError(error: unknown): WireError {
  const hosts = toHostError(error);
  const code: unknown = hosts.code;
  const detail = stackOf(hosts);
  return {
    code: isErrorCode(code) ? code : "INTERNAL",
    message: excerpt(messageOf(hosts)),
    ...(detail === undefined ? {} : { detail }),
    ...(hosts.cause instanceof pg.DatabaseError && hosts.cause.code !== undefined
      ? { state: hosts.cause.code }
      : {}),
    ...(error instanceof SchemaChanged ? { revisions: error.revisions } : {}),
  };
}

/**
 * The stack of its cause, or else its own. Reading it can throw: it is computed on access, perhaps by a hook
 * that a plugin's library installed.
 */
function stackOf(error: HostError): string | undefined {
  try {
    const origin = error.cause instanceof Error ? error.cause : error;
    const stack: unknown = origin.stack;
    return typeof stack === "string" ? excerptOfStack(stack, messageOf(origin)) : undefined;
  } catch {
    return undefined;
  }
}

/** The HostError described by `wire`; its cause carries the other thread's stack. */
export function fromWireError(wire: WireError): HostError {
  if (wire.revisions !== undefined) return new SchemaChanged(wire.revisions, wire.detail);
  const { detail, state } = wire;
  const cause = state === undefined ? detail : new DatabaseErrorInThread(state, detail);
  return new HostError(wire.code, wire.message, cause === undefined ? {} : { cause });
}

/** PostgreSQL's error as the other thread described it. */
class DatabaseErrorInThread extends Error {
  readonly code: string;

  constructor(code: string, stack = "") {
    super(`PostgreSQL's error ${code}`);
    this.code = code;
    this.stack = stack;
  }
}

/** The wire error in `value`, or undefined if it is not one. */
export function parseWireError(value: unknown): WireError | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (!("code" in value) || !("message" in value)) return undefined;
  const { code, message } = value;
  if (!isErrorCode(code) || typeof message !== "string") return undefined;
  return {
    code,
    message,
    ...("detail" in value && typeof value.detail === "string" ? { detail: value.detail } : {}),
    ...("state" in value && typeof value.state === "string" ? { state: value.state } : {}),
    ...("revisions" in value && typeof value.revisions === "string" ? { revisions: value.revisions } : {}),
  };
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(errorTable, code);
}
