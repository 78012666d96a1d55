/** Secret beginnings of the names of prepared statements: who knew a name could put a statement of its own in its place. */
import { randomBytes } from "node:crypto";

/** 96 unpredictable bits. */
export function secretPrefix(): string {
  return randomBytes(12).toString("base64url");
}

/** Prefix of the names of all prepared statements of this thread's requests. */
export const namespace = secretPrefix();
