/** Prefix of the names of all prepared statements of this thread: 96 unpredictable bits. */
import { randomBytes } from "node:crypto";

export const namespace = randomBytes(12).toString("base64url");
